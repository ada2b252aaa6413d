//! When to come again, in the words of `google.rpc`: what clients of gRPC read from the details of a status.

use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use prost_types::Any;

/// `google.rpc.Status`.
#[derive(Clone, PartialEq, Message)]
struct Status {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

/// `google.rpc.RetryInfo`.
#[derive(Clone, PartialEq, Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<prost_types::Duration>,
}

/// The details of a status of this code and message, which say when to come again.
pub fn details(code: i32, message: &str, after: Duration) -> Bytes {
    let delay = prost_types::Duration {
        seconds: i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(after.subsec_nanos()).unwrap_or(0),
    };
    let info = Any {
        type_url: "type.googleapis.com/google.rpc.RetryInfo".to_owned(),
        value: RetryInfo { retry_delay: Some(delay) }.encode_to_vec(),
    };
    Status { code, message: message.to_owned(), details: vec![info] }.encode_to_vec().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delay_is_where_clients_look_for_it() {
        let bytes = details(8, "slow down", Duration::from_millis(1500));
        let status = Status::decode(bytes).unwrap();
        assert_eq!((status.code, status.message.as_str()), (8, "slow down"));
        assert!(status.details[0].type_url.ends_with("/google.rpc.RetryInfo"));
        let info = RetryInfo::decode(status.details[0].value.as_slice()).unwrap();
        assert_eq!(info.retry_delay, Some(prost_types::Duration { seconds: 1, nanos: 500_000_000 }));
    }
}
