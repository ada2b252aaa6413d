//! When a token is valid, by a time that is given.
//!
//! Nothing here asks the machine for the time. A number that is none, or a moment that nobody can mean, refuses the
//! token.

use std::time::Duration;

use serde_json::{Map, Value};

use crate::{auth::jwt::error::TokenError, clock::Timestamp};

/// The end of the year 9999: what lies behind it is no date that anybody meant.
const LAST: Duration = Duration::from_secs(253_402_300_799);

/// How an issuer's times are taken.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    /// How far its clock may be from ours.
    pub(super) leeway: Duration,
    /// How long a token may be valid.
    pub(super) max_lifetime: Duration,
}

impl Window {
    /// From when on the token is not believed any more, if it is now.
    pub(super) fn check(self, payload: &Map<String, Value>, now: Timestamp) -> Result<Timestamp, TokenError> {
        let expires = moment(payload, "exp")?.ok_or_else(|| TokenError::claim("exp", "is missing"))?;
        let begins = moment(payload, "nbf")?;
        let issued = moment(payload, "iat")?;
        let end = expires.plus(self.leeway);
        if end <= now {
            return Err(TokenError::Expired);
        }
        if [begins, issued].into_iter().flatten().any(|begin| begin > now.plus(self.leeway)) {
            return Err(TokenError::NotYet);
        }
        if expires.since(issued.unwrap_or(now)) > self.max_lifetime {
            return Err(TokenError::TooLongLived { max: self.max_lifetime });
        }
        Ok(end)
    }
}

/// A claim that is a moment, if it is there: seconds since 1970, with a fraction perhaps.
pub(super) fn moment(payload: &Map<String, Value>, name: &str) -> Result<Option<Timestamp>, TokenError> {
    let Some(value) = payload.get(name) else { return Ok(None) };
    let since = match value.as_u64() {
        Some(seconds) => Some(Duration::from_secs(seconds)),
        None => value.as_f64().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()),
    };
    let millis = since.filter(|since| *since <= LAST).and_then(|since| i64::try_from(since.as_millis()).ok());
    let refused = || TokenError::claim(name, "must be a number of seconds since 1970");
    millis.map(|millis| Some(Timestamp(millis))).ok_or_else(refused)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const WINDOW: Window =
        Window { leeway: Duration::from_secs(30), max_lifetime: Duration::from_secs(3600) };
    /// In seconds.
    const NOW: i64 = 1_000_000;

    fn check(payload: &Value) -> Result<Timestamp, TokenError> {
        WINDOW.check(payload.as_object().unwrap(), Timestamp(NOW * 1000))
    }

    #[test]
    fn it_ends_when_the_leeway_is_over() {
        let end = |exp: i64| check(&json!({"exp": exp}));
        assert_eq!(end(NOW + 10), Ok(Timestamp((NOW + 40) * 1000)));
        assert_eq!(end(NOW - 29), Ok(Timestamp((NOW + 1) * 1000)));
        assert_eq!(end(NOW - 30), Err(TokenError::Expired));
        assert_eq!(check(&json!({"exp": 1_000_000.5})), Ok(Timestamp(NOW * 1000 + 30_500)));
    }

    #[test]
    fn it_begins_with_a_leeway() {
        for claim in ["nbf", "iat"] {
            let begin = |at: i64| {
                let mut payload = json!({"exp": NOW + 100});
                payload[claim] = json!(at);
                check(&payload).err()
            };
            assert_eq!(begin(NOW + 30), None);
            assert_eq!(begin(NOW + 31), Some(TokenError::NotYet));
        }
    }

    #[test]
    fn its_life_is_limited() {
        let too_long = Some(TokenError::TooLongLived { max: WINDOW.max_lifetime });
        assert_eq!(check(&json!({"exp": NOW + 3600})).err(), None);
        assert_eq!(check(&json!({"exp": NOW + 3601})).err(), too_long);
        assert_eq!(check(&json!({"exp": NOW + 10, "iat": NOW - 3590})).err(), None);
        assert_eq!(check(&json!({"exp": NOW + 10, "iat": NOW - 3591})).err(), too_long);
    }

    #[test]
    fn what_is_no_moment_is_refused() {
        for claim in ["exp", "nbf", "iat"] {
            for value in [
                json!("1000100"),
                json!(null),
                json!(-1),
                json!(-0.5),
                json!(1e300),
                json!(u64::MAX),
                json!(i64::MIN),
                json!(253_402_300_800_u64),
                json!(true),
                json!([1]),
                json!({}),
            ] {
                let mut payload = json!({"exp": NOW + 100});
                payload[claim] = value;
                let refused = check(&payload);
                assert!(
                    matches!(&refused, Err(TokenError::Claim { name, .. }) if name == claim),
                    "{payload}"
                );
            }
        }
        assert!(matches!(check(&json!({})), Err(TokenError::Claim { name, .. }) if name == "exp"));
    }
}
