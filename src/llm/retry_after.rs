//! When a provider wants to be asked again, out of its headers or trailers.
//!
//! Reads what servers really send: seconds, milliseconds, an HTTP date, gRPC's pushback, and the times at which a used
//! up limit is full again. What cannot be read is as if it were not there.

use std::time::{Duration, SystemTime};

use http::HeaderMap;

use crate::{
    clock::{Clock as _, SystemClock},
    llm::ErrorKind,
};

/// The names of a number of milliseconds, before which nobody needs to look further.
const IN_MILLISECONDS: [&str; 3] = ["retry-after-ms", "grpc-retry-pushback-ms", "retry-pushback-ms"];
/// The names of a number of seconds.
const IN_SECONDS: [&str; 2] = ["retry-after", "retry-pushback"];
/// What servers limit, in `x-ratelimit-remaining-…` and `x-ratelimit-reset-…`.
const LIMITED: [&str; 2] = ["requests", "tokens"];

/// Nobody waits so long, and a time far enough away could not be added to the present one.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// How long to wait before the next try, if the server says so; at most a day.
pub(super) fn retry_after(headers: &HeaderMap, kind: ErrorKind) -> Option<Duration> {
    let number = |name: &&str| text(headers, name)?.parse::<f64>().ok();
    let seconds = IN_MILLISECONDS.iter().find_map(number).map(|ms| ms / 1000.0);
    let told = seconds.or_else(|| IN_SECONDS.iter().find_map(number));
    told.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .or_else(|| until_date(headers))
        .or_else(|| until_reset(headers).filter(|_| kind == ErrorKind::RateLimited))
        .map(|told| told.min(LONGEST))
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

/// The time until the date of `retry-after`; zero if it is over. By the server's own clock where it tells its time:
/// ours may be wrong.
fn until_date(headers: &HeaderMap) -> Option<Duration> {
    let date = |name| httpdate::parse_http_date(text(headers, name)?).ok();
    let at = date("retry-after")?;
    let now = date("date").or_else(|| {
        let since_epoch = u64::try_from(SystemClock.now().0).ok()?;
        SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(since_epoch))
    })?;
    Some(at.duration_since(now).unwrap_or_default())
}

/// The time until every limit that is used up is full again.
fn until_reset(headers: &HeaderMap) -> Option<Duration> {
    let reset = |limited: &&str| {
        let remaining = text(headers, &format!("x-ratelimit-remaining-{limited}"))?;
        let reset = text(headers, &format!("x-ratelimit-reset-{limited}"))?;
        if remaining == "0" { span(reset) } else { None }
    };
    LIMITED.iter().filter_map(reset).max()
}

/// Reads `6m0s`, `1.5s`, `20ms` or a number of seconds.
fn span(text: &str) -> Option<Duration> {
    if let Ok(seconds) = text.parse() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let mut rest = text;
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, unit) = rest.split_at_checked(digits)?;
        let end = unit.find(|c: char| c.is_ascii_digit()).unwrap_or(unit.len());
        let (unit, behind) = unit.split_at_checked(end)?;
        let scale = match unit {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            "d" => 86_400.0,
            _ => return None,
        };
        seconds += number.parse::<f64>().ok()? * scale;
        rest = behind;
    }
    Duration::try_from_secs_f64(seconds).ok().filter(|_| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn told(headers: &[(&'static str, &str)]) -> Option<Duration> {
        let map = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()));
        retry_after(&map.collect(), ErrorKind::RateLimited)
    }

    #[test]
    fn seconds_and_milliseconds_are_read() {
        assert_eq!(told(&[("retry-after", "7")]), Some(Duration::from_secs(7)));
        assert_eq!(told(&[("retry-after", " 0.5 ")]), Some(Duration::from_millis(500)));
        assert_eq!(
            told(&[("retry-after", "2"), ("retry-after-ms", "1500")]),
            Some(Duration::from_millis(1500))
        );
        assert_eq!(told(&[("grpc-retry-pushback-ms", "250")]), Some(Duration::from_millis(250)));
        assert_eq!(told(&[("retry-pushback", "3")]), Some(Duration::from_secs(3)));
        for odd in ["-1", "nan", "inf", "1e300", "soon", ""] {
            assert_eq!(told(&[("retry-after", odd)]), None, "{odd}");
        }
    }

    #[test]
    fn a_date_is_read_by_the_clock_of_who_wrote_it() {
        let at = ("retry-after", "Wed, 21 Oct 2015 07:28:00 GMT");
        let now = |now| told(&[at, ("date", now)]);
        assert_eq!(now("Wed, 21 Oct 2015 07:27:30 GMT"), Some(Duration::from_secs(30)));
        assert_eq!(now("Wed, 21 Oct 2015 07:28:01 GMT"), Some(Duration::ZERO), "over");
        assert_eq!(told(&[at]), Some(Duration::ZERO), "over by our own clock");
    }

    #[test]
    fn no_wait_is_longer_than_a_day() {
        let day = Some(Duration::from_secs(86_400));
        assert_eq!(told(&[("retry-after", "86399")]), day.map(|day| day - Duration::from_secs(1)));
        for header in [
            ("retry-after", "86400"),
            ("retry-after", "86401"),
            ("retry-after-ms", "1e15"),
            ("retry-after", "Fri, 31 Dec 9999 00:00:00 GMT"),
        ] {
            assert_eq!(told(&[header]), day, "{header:?}");
        }
        let reset = [("x-ratelimit-remaining-tokens", "0"), ("x-ratelimit-reset-tokens", "30d")];
        assert_eq!(told(&reset), day);
    }

    #[test]
    fn a_limit_that_is_used_up_says_when_it_is_full_again() {
        let limit = |remaining, reset| {
            told(&[("x-ratelimit-remaining-requests", remaining), ("x-ratelimit-reset-requests", reset)])
        };
        assert_eq!(limit("0", "1s"), Some(Duration::from_secs(1)));
        assert_eq!(limit("0", "6m0s"), Some(Duration::from_secs(360)));
        assert_eq!(limit("0", "1m30.5s"), Some(Duration::from_millis(90_500)));
        assert_eq!(limit("0", "20ms"), Some(Duration::from_millis(20)));
        assert_eq!(limit("0", "12"), Some(Duration::from_secs(12)));
        assert_eq!(limit("3", "1s"), None, "not used up");
        for odd in ["", "s", "1x", "1.2.3s", "-1s"] {
            assert_eq!(limit("0", odd), None, "{odd}");
        }
        let both = [
            ("x-ratelimit-remaining-requests", "0"),
            ("x-ratelimit-reset-requests", "1s"),
            ("x-ratelimit-remaining-tokens", "0"),
            ("x-ratelimit-reset-tokens", "4s"),
        ];
        assert_eq!(told(&both), Some(Duration::from_secs(4)));
        let mut first = both.to_vec();
        first.push(("retry-after", "9"));
        assert_eq!(told(&first), Some(Duration::from_secs(9)), "what is said plainly counts");
    }
}
