//! The messages of the contracts, generated from `proto/` by `build.rs`: those of the server, and that of the Chat
//! Service it may call.
#![allow(
    clippy::all,
    clippy::pedantic,
    clippy::restriction,
    unreachable_pub,
    missing_debug_implementations,
    rustdoc::all,
    reason = "generated code"
)]

/// The public contract.
pub mod room {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("room.v1");
    }
}

/// The original's Chat Service, which answers for LLMs.
pub mod api {
    tonic::include_proto!("api");
}

/// What the original's services say to one another.
pub mod shared {
    tonic::include_proto!("shared");
}

/// What only the server reads.
pub mod salon {
    /// What a backup consists of.
    pub mod backup {
        /// Version 1.
        pub mod v1 {
            tonic::include_proto!("salon.backup.v1");
        }
    }
    /// What nodes say to one another.
    pub mod bus {
        /// Version 1.
        pub mod v1 {
            tonic::include_proto!("salon.bus.v1");
        }
    }
    /// The log's own messages.
    pub mod log {
        /// Version 1.
        pub mod v1 {
            tonic::include_proto!("salon.log.v1");
        }
    }
}

/// The encoded `FileDescriptorSet` of the public contract.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
