//! What every check of a value is made from: the list of problems, bounds, and what values are written like.

use std::{fmt::Display, ops::RangeInclusive, time::Duration};

use crate::config::{
    error::{Problem, Sources},
    format_duration, format_size, keys,
};

pub(super) const MS: Duration = Duration::from_millis(1);
pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const MINUTE: Duration = Duration::from_secs(60);
pub(super) const HOUR: Duration = Duration::from_secs(60 * 60);
pub(super) const KIB: usize = 1 << 10;
pub(super) const MIB: usize = 1 << 20;

/// The problems that were found so far.
pub(super) struct Checks<'a> {
    pub(super) sources: &'a Sources,
    pub(super) problems: Vec<Problem>,
}

impl Checks<'_> {
    pub(super) fn refuse(
        &mut self,
        key: &str,
        value: &str,
        rule: impl Into<String>,
        mend: impl Into<String>,
    ) {
        self.problems.push(Problem {
            key: key.into(),
            value: Some(keys::shown(key, value)),
            source: self.sources.of(key),
            rule: rule.into(),
            mend: mend.into(),
        });
    }

    pub(super) fn require(&mut self, holds: bool, key: &str, value: &str, rule: &str, mend: &str) {
        if !holds {
            self.refuse(key, value, rule, mend);
        }
    }

    pub(super) fn range<T: PartialOrd>(
        &mut self,
        key: &str,
        value: &T,
        range: RangeInclusive<T>,
        show: impl Fn(&T) -> String,
    ) {
        if !range.contains(value) {
            let rule = format!("must be from {} to {}", show(range.start()), show(range.end()));
            self.refuse(key, &show(value), rule, keys::mend(key));
        }
    }

    pub(super) fn count<T: PartialOrd + Display + Copy>(
        &mut self,
        key: &str,
        value: T,
        range: RangeInclusive<T>,
    ) {
        self.range(key, &value, range, T::to_string);
    }

    pub(super) fn time(&mut self, key: &str, value: Duration, range: RangeInclusive<Duration>) {
        self.range(key, &value, range, |value| format_duration(*value));
    }

    pub(super) fn size(&mut self, key: &str, value: usize, range: RangeInclusive<usize>) {
        self.range(key, &value, range, |value| format_size(*value));
    }
}

/// Whether `name` is written as variables are: in capitals, which keys of providers are not.
pub(super) fn is_variable_name(name: &str) -> bool {
    !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.is_empty()
        && name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
}

pub(super) fn is_base_url(url: &str) -> bool {
    let Ok(uri) = url.parse::<http::Uri>() else { return false };
    let web = matches!(uri.scheme_str(), Some("http" | "https"));
    web && uri.host().is_some_and(|host| !host.is_empty()) && !url.contains(['@', '?', '#'])
}
