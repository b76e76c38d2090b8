//! Sends a line to the echo server of domain 1 and prints what comes back.

use embedded_io_async::Write;
use std::process::ExitCode;
use xen_linux::{Linux, open_store};
use xen_platform::DomId;
use xen_vchan::{ClientConfig, connect};

fn main() -> ExitCode {
    let linux = Linux::new();
    let platform = linux.clone();
    let talked = linux.run(|spawner| async move {
        let store = open_store(&platform, &spawner).await.map_err(|error| error.to_string())?;
        let config = ClientConfig::new(DomId(1), "data/vchan");
        let connection =
            connect(&platform, &store, &config).await.map_err(|error| error.to_string())?;
        let (mut reader, mut writer) = connection.split();
        writer.write_all(b"hello").await.map_err(|error| error.to_string())?;
        let mut answer = [0; 5];
        reader.recv(&mut answer).await.map_err(|error| error.to_string())?;
        connection.close().await.map_err(|error| error.to_string())?;
        Ok::<_, String>(answer)
    });
    match talked {
        Ok(answer) => println!("{}", String::from_utf8_lossy(&answer)),
        Err(reason) => {
            eprintln!("shout: {reason}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
