//! Compiles the contract. `protox` parses the `.proto` files in Rust, so that building Salon needs no `protoc`.

use std::{env, error::Error, fs, path::PathBuf};

use protox::prost::Message as _;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let out_dir = PathBuf::from(env::var("OUT_DIR")?);

    // Reflection shows every public name, the original's among them.
    let public =
        protox::compile(["room/v1/room.proto", "room/v1/admin.proto", "api/room/room.proto"], ["proto"])?;
    fs::write(out_dir.join("descriptors.bin"), public.encode_to_vec())?;

    // Of the Chat Service the program is a client; its tests play the server.
    let code = protox::compile(
        [
            "room/v1/room.proto",
            "room/v1/admin.proto",
            "salon/backup/v1/backup.proto",
            "salon/log/v1/log.proto",
            "salon/bus/v1/bus.proto",
            "api/chat/chat.proto",
        ],
        ["proto"],
    )?;
    tonic_prost_build::configure()
        .bytes(".room.v1.SendSignal.data")
        .bytes(".room.v1.Signal.data")
        .bytes(".salon.backup.v1")
        .bytes(".salon.bus.v1")
        .compile_fds(code)?;
    Ok(())
}
