//! What a server of Redis says of itself: whether it is one of a cluster, which others there are, and whether it may be
//! published on. A server that does not say is taken for a single master.

use redis::{
    ConnectionAddr, ConnectionInfo, ErrorKind, FromRedisValue as _, RedisResult, Value,
    aio::MultiplexedConnection,
};

/// The first version with sharded channels.
const SHARDED_SINCE: u32 = 7;

/// What `INFO` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Facts {
    /// Whether it is one of a cluster.
    cluster: bool,
    /// The first number of its version.
    version: Option<u32>,
    /// Whether it repeats what a master says.
    replica: bool,
}

impl Facts {
    pub(super) async fn of(connection: &mut MultiplexedConnection) -> RedisResult<Self> {
        match redis::cmd("INFO").query_async::<String>(connection).await {
            Ok(info) => Ok(Self::read(&info)),
            // It may forbid us to ask.
            Err(error) if matches!(error.kind(), ErrorKind::Server(_)) => Ok(Self::read("")),
            Err(error) => Err(error),
        }
    }

    fn read(info: &str) -> Self {
        let value = |key: &str| {
            info.lines()
                .find_map(|line| line.trim().strip_prefix(key).and_then(|rest| rest.strip_prefix(':')))
        };
        let version = value("redis_version").and_then(|version| version.split('.').next()?.parse().ok());
        let (cluster, replica) = (value("redis_mode") == Some("cluster"), value("role") == Some("slave"));
        Self { cluster, version, replica }
    }

    /// Whether it is one of a cluster that has sharded channels.
    pub(super) fn is_sharded(self) -> bool {
        self.cluster && self.version.is_some_and(|version| version >= SHARDED_SINCE)
    }

    /// Whether what is published on it is heard by whoever is connected to the others; if not, what it is.
    pub(super) fn is_usable(self) -> Result<(), &'static str> {
        match self.replica && !self.cluster {
            true => Err("the server is a replica: only its master can be used"),
            false => Ok(()),
        }
    }
}

/// All servers of the cluster that one is of, reached as this one is; none if it does not say.
pub(super) async fn servers_of_cluster(
    connection: &mut MultiplexedConnection,
    server: &ConnectionInfo,
) -> Vec<ConnectionInfo> {
    let slots = redis::cmd("CLUSTER").arg("SLOTS").query_async::<Vec<Vec<Value>>>(connection).await;
    let ranges = slots.unwrap_or_default();
    let all = ranges.iter().flat_map(|range| range.iter().skip(2));
    all.filter_map(|named| Some(server.clone().set_addr(address(named, server.addr())?))).collect()
}

/// Where a server is that is named by its host, its port, and more; `like` one that has answered.
fn address(named: &Value, like: &ConnectionAddr) -> Option<ConnectionAddr> {
    let Value::Array(parts) = named else { return None };
    let (host, port) = (parts.first()?, u16::from_redis_value_ref(parts.get(1)?).ok()?);
    let named = match host {
        Value::BulkString(host) => std::str::from_utf8(host).ok()?,
        // It has no name but that by which it was reached.
        _ => "",
    };
    if named == "?" {
        return None;
    }
    let name = |own: &str| if named.is_empty() { own.to_owned() } else { named.to_owned() };
    match like {
        ConnectionAddr::Tcp(own, _) => Some(ConnectionAddr::Tcp(name(own), port)),
        ConnectionAddr::TcpTls { host: own, insecure, tls_params, .. } => Some(ConnectionAddr::TcpTls {
            host: name(own),
            port,
            insecure: *insecure,
            tls_params: tls_params.clone(),
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(mode: &str, version: &str, role: &str) -> Facts {
        let text = format!("# Server\r\nredis_version:{version}\r\nredis_mode:{mode}\r\n\r\nrole:{role}\r\n");
        Facts::read(&text)
    }

    #[test]
    fn only_a_cluster_that_has_them_uses_sharded_channels() {
        assert!(info("cluster", "7.0.15", "master").is_sharded());
        assert!(info("cluster", "10.1.0", "slave").is_sharded());
        assert!(!info("cluster", "6.2.1", "master").is_sharded());
        assert!(!info("standalone", "7.0.15", "master").is_sharded());
        assert!(!Facts::read("").is_sharded());
    }

    #[test]
    fn only_a_replica_outside_of_a_cluster_is_of_no_use() {
        assert!(info("standalone", "7.0.15", "slave").is_usable().is_err());
        assert_eq!(info("cluster", "6.2.1", "slave").is_usable(), Ok(()));
        assert_eq!(info("standalone", "7.0.15", "master").is_usable(), Ok(()));
        assert_eq!(Facts::read("").is_usable(), Ok(()));
    }

    #[test]
    fn a_server_that_is_told_of_is_reached_as_the_one_that_tells() {
        let like = ConnectionAddr::Tcp("seed".to_owned(), 1);
        let named = |host: Value| Value::Array(vec![host, Value::Int(7001), Value::Nil]);
        let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let tcp = |host: &str| Some(ConnectionAddr::Tcp(host.to_owned(), 7001));
        assert_eq!(address(&named(text("10.0.0.1")), &like), tcp("10.0.0.1"));
        assert_eq!(address(&named(text("")), &like), tcp("seed"));
        assert_eq!(address(&named(Value::Nil), &like), tcp("seed"));
        assert_eq!(address(&named(text("?")), &like), None);
        assert_eq!(address(&Value::Int(1), &like), None);
    }
}
