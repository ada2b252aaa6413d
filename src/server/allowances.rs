//! What callers may take, as the configuration says it.

use std::num::NonZeroU32;

use crate::{
    allowance::{
        Allowances,
        quotas::Given,
        rate::{Paces, Rate, RateTable, What},
        streams::StreamLimits,
    },
    auth::quotas::Quotas,
    config::{CallerRates, Config, Limits, NamespaceRates, Quota, RateWord, Rates},
};

/// What everybody may take.
pub(super) fn allowances(config: &Config) -> Allowances {
    let limits = &config.limits;
    let rates = RateTable {
        user: user(config),
        credential: caller(&limits.rates.credential, RateWord::NONE),
        peer: caller(&limits.rates.peer, limits.rates.failed_sign_ins),
        namespace: namespace(&limits.rates.namespace),
        default_namespace: namespace(&limits.rates.default_namespace),
    };
    let quotas = &limits.quotas;
    Allowances::new(
        rates,
        streams(limits),
        Given::new(quota(&quotas.namespace), quota(&quotas.default_namespace)),
    )
}

fn user(config: &Config) -> Paces {
    let limits = &config.limits;
    let Rates { user, .. } = &limits.rates;
    let minute = std::time::Duration::from_secs(60);
    Paces::new([
        (
            What::Messages,
            Some(Rate::per_second(some(limits.messages_per_second), some(limits.messages_burst))),
        ),
        (
            What::Transients,
            Some(Rate::per_second(some(limits.transients_per_second), some(limits.transients_burst))),
        ),
        (What::Generations, Some(Rate::in_each(some(config.llm.generate_per_minute), minute))),
        (What::Joins, rate(user.joins)),
        (What::Rooms, rate(user.rooms)),
        (What::LlmCalls, rate(user.llm_calls)),
        (What::History, rate(user.history)),
    ])
}

fn caller(rates: &CallerRates, failed_sign_ins: RateWord) -> Paces {
    Paces::new([
        (What::Messages, rate(rates.messages)),
        (What::Transients, rate(rates.transients)),
        (What::Joins, rate(rates.joins)),
        (What::Rooms, rate(rates.rooms)),
        (What::History, rate(rates.history)),
        (What::Generations, rate(rates.generations)),
        (What::Admin, rate(rates.admin)),
        (What::FailedSignIns, rate(failed_sign_ins)),
    ])
}

fn namespace(rates: &NamespaceRates) -> Paces {
    Paces::new([
        (What::Messages, rate(rates.messages)),
        (What::Transients, rate(rates.transients)),
        (What::Joins, rate(rates.joins)),
        (What::Rooms, rate(rates.rooms)),
        (What::LlmCalls, rate(rates.llm_calls)),
        (What::History, rate(rates.history)),
        (What::Generations, rate(rates.generations)),
        (What::Admin, rate(rates.admin)),
    ])
}

fn rate(word: RateWord) -> Option<Rate> {
    word.0.map(|(count, period)| Rate::in_each(count, period))
}

/// Zero is refused by the configuration.
fn some(count: u32) -> NonZeroU32 {
    NonZeroU32::new(count).unwrap_or(NonZeroU32::MIN)
}

fn streams(limits: &Limits) -> StreamLimits {
    StreamLimits {
        per_user: limits.streams_per_user,
        per_credential: limits.streams_per_credential,
        per_peer: limits.streams_per_peer,
        waiting: limits.streams_waiting_to_join,
        waiting_per_peer: limits.streams_waiting_per_peer,
        // One tenant leaves most of the places to others.
        waiting_per_namespace: (limits.streams_waiting_to_join / 4).max(1),
    }
}

fn quota(quota: &Quota) -> Quotas {
    Quotas {
        rooms: quota.rooms,
        members: quota.members,
        stored_bytes: quota.stored_bytes.map(|bytes| u64::try_from(bytes).unwrap_or(u64::MAX)),
        runs: quota.runs,
        streams: quota.streams,
    }
}
