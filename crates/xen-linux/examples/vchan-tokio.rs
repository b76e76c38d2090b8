//! Sends a text to the server of the domain that is named "echo", under tokio.

use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use xen_linux::vchan::AsyncStream;

async fn hello() -> std::io::Result<()> {
    let timeout = Duration::from_secs(10);
    let mut stream = AsyncStream::connect_name("echo", "data/vchan", timeout).await?;
    stream.write_all(b"hello").await?;
    let mut answer = [0; 5];
    stream.read_exact(&mut answer).await?;
    println!("{}", String::from_utf8_lossy(&answer));
    stream.close().await
}

// The stream is not `Send`, so its task stays on one thread.
#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    tokio::task::LocalSet::new().run_until(hello()).await
}
