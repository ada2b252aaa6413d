//! `salon log ROOM`: a room's log as lines of JSON, oldest first.
//!
//! Ends where the log ended when the call arrived. A reader that closes the pipe ends it early and quietly.

use std::io::{BufWriter, Write};

use crate::{
    cli::{
        client::{self, Error},
        exit::Exit,
        json::Printer,
    },
    wire::pb::room::v1::ReadLogRequest,
};

/// What `salon log` was asked.
#[derive(Debug, Clone, Default)]
pub struct LogOptions {
    /// The server.
    pub server: client::Server,
    /// The room whose log to print.
    pub room: String,
    /// Begin behind this position; 0: from the beginning.
    pub after: u64,
    /// At most so many events; 0: all.
    pub limit: u64,
    /// Whose rights to use; none: the server decides whether a stranger may read.
    pub user: Option<String>,
}

/// Prints the log to `out`.
pub async fn run(options: LogOptions, out: &mut (impl Write + Send)) -> Result<Exit, Error> {
    let printer = Printer::new("room.v1.ServerEvent")?;
    let mut client = client::rooms(&options.server).await?;
    let request = ReadLogRequest {
        room_id: options.room.clone(),
        after_seq: options.after,
        limit: options.limit,
        user_id: options.user,
    };
    let refused = |status: tonic::Status| Error::from_status(&status, Some(&options.room));
    let mut stream = client.read_log(request).await.map_err(refused)?.into_inner();
    let mut out = BufWriter::new(out);
    let written = async {
        while let Some(response) = stream.message().await.map_err(refused)? {
            if let Some(event) = response.event {
                writeln!(out, "{}", printer.line(&event)?)?;
            }
        }
        Ok(out.flush()?)
    };
    match written.await {
        Err(error) if !Error::is_broken_pipe(&error) => Err(error),
        Ok(()) | Err(_) => Ok(Exit::Success),
    }
}
