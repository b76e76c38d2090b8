//! Both ends of the measurement on our crates: what `c/native-c.c` does with Xen's library.

use crate::clock;
use crate::machine::Machine;
use crate::native::Native;
use anyhow::{Context, Result, bail};
use embedded_io_async::{Read, Write};
use std::io::BufRead;
use std::rc::Rc;
use xen_exec::{Executor, Spawner};
use xen_platform::DomId;
use xen_sim::xenstore::Xenstored;
use xen_store::Store;
use xen_vchan::{ClientConfig, Connection, Offer, Order, Reader, ServerConfig, Writer};

const PATH: &str = "data/vchan";
const CHUNK: usize = 64 << 10;
const LARGEST: usize = 1 << 20;

/// The header of a job: its kind, the size of its messages, and their number.
const HEADER: usize = 16;

fn header(is_trip: bool, size: usize, count: u64) -> [u8; HEADER] {
    let mut bytes = [0; HEADER];
    bytes[..4].copy_from_slice(&u32::from(is_trip).to_ne_bytes());
    bytes[4..8].copy_from_slice(&(size as u32).to_ne_bytes());
    bytes[8..].copy_from_slice(&count.to_ne_bytes());
    bytes
}

/// Runs `work` with a platform and a private xenstore, which has the server's domain.
fn run<F: Future<Output = Result<()>> + 'static>(
    is_server: bool,
    work: impl FnOnce(Native, Store, Xenstored) -> F,
) -> Result<()> {
    let native = Native::new(Machine::from_env()?, is_server);
    let mut executor = Executor::new();
    let xs = Xenstored::new();
    xs.introduce(DomId(1));
    let store = store(&xs, is_server, &executor.spawner());
    let turning = native.clone();
    executor.run(work(native, store, xs), |turn| turning.turn(turn))
}

fn store(xs: &Xenstored, is_server: bool, spawner: &Spawner) -> Store {
    let (from, to) = xs.connect(DomId(is_server.into()));
    let (store, driver) = xen_store::connect(from, to);
    spawner.spawn(async move { drop(driver.await) });
    store
}

/// Serves one client, until it says that it is done.
pub fn serve(ring: usize) -> Result<()> {
    run(true, move |native, store, _xs| async move {
        let order = Order::for_size(ring).context("a ring has at most 1 MiB")?;
        let config = ServerConfig::new(DomId(0), PATH).rings(order, order);
        let offer = Offer::publish(&native, &store, &config).await?;
        native.machine().publish(offer.info().control_ref.0, offer.info().port.0);
        let connection = offer.accept().await?;
        let (mut reader, mut writer) = connection.split();
        let mut data = vec![0; LARGEST];
        loop {
            let mut head = [0; HEADER];
            reader.recv(&mut head).await?;
            let word = |at: usize| u32::from_ne_bytes(head[at..at + 4].try_into().expect("four"));
            let count = u64::from_ne_bytes(head[8..].try_into().expect("eight"));
            let size = word(4) as usize;
            match (count, word(0)) {
                (0, _) => return Ok(()),
                (_, 0) => sink(&mut reader, &mut writer, &mut data, size as u64 * count).await?,
                _ => echo(&mut reader, &mut writer, &mut data[..size], count).await?,
            }
        }
    })
}

async fn sink(
    reader: &mut Reader<Native>,
    writer: &mut Writer<Native>,
    data: &mut [u8],
    mut left: u64,
) -> Result<()> {
    while left > 0 {
        let n = reader.read(&mut data[..CHUNK]).await?;
        if n == 0 {
            bail!("the client has left");
        }
        left -= n as u64;
    }
    Ok(writer.send(&data[..1]).await?)
}

async fn echo(
    reader: &mut Reader<Native>,
    writer: &mut Writer<Native>,
    data: &mut [u8],
    count: u64,
) -> Result<()> {
    for _ in 0..count {
        reader.recv(data).await?;
        writer.send(data).await?;
    }
    Ok(())
}

/// Measures the jobs on standard input, one a line, and prints the seconds of each.
pub fn measure() -> Result<()> {
    run(false, |native, store, xs| async move {
        let (ring_ref, port) = native.machine().keys();
        let folder = format!("/local/domain/1/{PATH}");
        for (key, value) in [("ring-ref", ring_ref), ("event-channel", port)] {
            let key = format!("{folder}/{key}");
            xs.set(&key, value.to_string());
            xs.set_permissions(&key, "n1 r0");
        }
        let connection =
            xen_vchan::connect(&native, &store, &ClientConfig::new(DomId(1), PATH)).await?;
        let data: Rc<[u8]> = vec![0x5a; LARGEST].into();
        for line in std::io::stdin().lock().lines() {
            println!("{:.9}", job(&connection, &line?, &data).await?);
        }
        let (_, mut writer) = connection.split();
        Ok(writer.send(&header(false, 0, 0)).await?)
    })
}

async fn job(connection: &Connection<Native>, line: &str, data: &[u8]) -> Result<f64> {
    let mut words = line.split(' ');
    let is_trip = words.next() == Some("trip");
    let mut number =
        || words.next().context("a job is KIND SIZE COUNT")?.parse().context(line.to_string());
    let (size, count): (u64, u64) = (number()?, number()?);
    let message = &data[..size as usize];
    let (mut reader, mut writer) = connection.split();
    let begun = clock::now();
    writer.send(&header(is_trip, message.len(), count)).await?;
    let mut answer = vec![0; message.len()];
    for _ in 0..count {
        if is_trip {
            writer.send(message).await?;
            reader.recv(&mut answer).await?;
        } else {
            writer.write_all(message).await?;
        }
    }
    if !is_trip {
        reader.recv(&mut answer[..1]).await?;
    }
    Ok(clock::now().since(begun).as_secs_f64())
}
