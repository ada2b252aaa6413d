//! The servers to compare with: each is one thread that owns everything, which is the cheapest way to use one CPU.
//!
//! They understand `join` and `message`, answer by `room_state` and `ack`, and bring every message to everybody in its
//! room. They keep nothing, allow everything and end only when they are killed. Whoever reads too slowly is dropped, so
//! that none of them can be fast by holding everything in memory; with the naive one everybody waits instead.

mod bare;
mod event;
mod naive;
mod tcp;

use std::net::Ipv4Addr;

use anyhow::Context as _;
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::{Builder, LocalOptions},
};

/// What may wait for one member, in bytes, before it is dropped. Far above what a window of unanswered messages comes to.
const BACKLOG: usize = 8 << 20;

/// A server to compare with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Serve {
    /// Plain TCP.
    Tcp,
    /// tonic with ready-made bytes.
    Bare,
    /// tonic with a channel of messages for each member.
    Naive,
}

/// Serves on this machine until the process is killed.
pub(crate) fn serve(kind: Serve, port: u16) -> anyhow::Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
    runtime.block_on(async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.context("cannot listen")?;
        match kind {
            Serve::Tcp => tcp::serve(&listener).await,
            Serve::Bare => bare::serve(listener).await,
            Serve::Naive => naive::serve(listener).await,
        }
    })
}

/// The next connection, which sends at once what is written.
async fn accept(listener: &TcpListener) -> anyhow::Result<TcpStream> {
    let (stream, _) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}
