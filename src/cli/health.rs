//! `salon health`: asks a server whether it is ready, for people and for container health checks.
//!
//! Code 0 only when the server says that it is serving; everything else, silence too, is code 1.

use std::{io::Write, time::Duration};

use tonic::Code;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::cli::{
    client::{self, Error},
    exit::Exit,
    text,
};

/// What `salon health` was asked.
#[derive(Debug, Clone)]
pub struct HealthOptions {
    /// The server.
    pub server: client::Server,
    /// The service to ask about, for example `room.v1.RoomService`; empty: the server as a whole.
    pub service: String,
    /// How long to wait for the answer, connecting included.
    pub timeout: Duration,
}

/// Asks once, and writes one line to `out`.
pub async fn run(options: HealthOptions, out: &mut (impl Write + Send)) -> Result<Exit, Error> {
    let answer = match tokio::time::timeout(options.timeout, check(&options)).await {
        Ok(answer) => answer?,
        Err(_) => format!("no answer within {} ms", options.timeout.as_millis()),
    };
    writeln!(out, "{answer}")?;
    out.flush()?;
    Ok(if answer == SERVING { Exit::Success } else { Exit::Failure })
}

/// The one answer that is good.
const SERVING: &str = "serving";

async fn check(options: &HealthOptions) -> Result<String, Error> {
    let mut client = HealthClient::new(client::connect(&options.server).await?);
    match client.check(HealthCheckRequest { service: options.service.clone() }).await {
        Ok(response) => Ok(match response.into_inner().status() {
            ServingStatus::Serving => SERVING.to_owned(),
            ServingStatus::NotServing => "not serving".to_owned(),
            ServingStatus::Unknown | ServingStatus::ServiceUnknown => "unknown".to_owned(),
        }),
        Err(status) if status.code() == Code::NotFound => {
            Ok(format!("the server knows no service {:?}", text::line(&options.service)))
        }
        Err(status) => Err(Error::from_status(&status, None)),
    }
}
