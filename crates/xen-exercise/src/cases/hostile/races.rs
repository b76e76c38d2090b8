//! Requests that change while they are carried out, batches with bad ones among good ones, and
//! connections that end with requests in flight.

use crate::cases::Context;
use crate::cases::requests::{self, TIMEOUT};
use crate::environment::{Error, Io};
use crate::raw::{Page, Raw, Rings};
use crate::stamp::SECTOR;
use crate::tasks::Boxed;
use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;
use xen_abi::blkif as abi;
use xen_blk::front::{Config, Info};
use xen_blk::protocol::wire::Response;

use Page::{Data, Unshared};

/// Requests that are changed after they were sent.
const ROUNDS: u64 = 120;
/// Contents of pages before a request: no round's number.
const BEFORE: u8 = 0x9d;

/// The same number for two requests: both must be answered.
pub async fn twice(cx: &Context<'_>, raw: &mut dyn Raw, sectors: u64) {
    let request = requests::direct(raw, 0, 1, 0, &[(Data(0), 0, 7)]);
    let mut other = requests::direct(raw, 0, 1, sectors / 2 / 8 * 8, &[(Data(1), 0, 7)]);
    other[8..16].copy_from_slice(&request[8..16]);
    raw.send(&request);
    raw.send(&other);
    for _ in 0..2 {
        let answered = raw.response(TIMEOUT).await.is_some_and(|response| response.status == 0);
        cx.check(answered, format_args!("two requests of one number: one has no answer"));
    }
}

/// The list of segments changes for as long as the request is under way, and the request itself
/// with it (XSA-155).
pub async fn changing_list(cx: &Context<'_>, raw: &mut dyn Raw, info: &Info) {
    if info.indirect_segments == 0 {
        return;
    }
    let segments = [(Data(0), 0, 7); 8];
    for round in 0..200u32 {
        raw.send(&requests::indirect(raw, 0, 8, 0, &segments, true));
        // Any of these may be what the backend sees: it must judge and use the same.
        for step in 0..(round % 16) * 8 {
            let value = [0u8, 7, 200, 255][step as usize % 4];
            requests::change_list(raw, step as usize % 8, value);
        }
        let answered = raw.response(TIMEOUT).await.is_some();
        if !cx.check(
            answered,
            format_args!("a list that changes under direction: no answer in round {round}"),
        ) {
            return;
        }
    }
}

pub fn fill(raw: &dyn Raw, page: usize, value: u8) {
    raw.write(page, 0, &vec![value; 4096]);
}

/// Tells if all of a page has that value.
fn is_filled(raw: &dyn Raw, page: usize, value: u8) -> bool {
    let mut bytes = [0; 4096];
    raw.read(page, 0, &mut bytes);
    bytes.iter().all(|byte| *byte == value)
}

/// Sends a request to `sector` for a whole page; returns if it succeeded.
pub fn page(raw: &mut dyn Raw, operation: u8, sector: u64, page: usize) -> Boxed<'_, bool> {
    Box::pin(async move {
        let request = requests::direct(raw, operation, 1, sector, &[(Data(page), 0, 7)]);
        requests::status_of(raw, &request, TIMEOUT).await == Some(abi::RSP_OKAY)
    })
}

/// Neighbours on the disk in one batch, two of which are bad in different ways: the others must not
/// suffer, and these must not profit.
pub async fn batches(cx: &Context<'_>, raw: &mut dyn Raw, info: &Info, keeps: bool) {
    let middle = info.sectors / 2 / 8 * 8;
    for operation in [abi::OP_READ, abi::OP_WRITE] {
        if operation == abi::OP_WRITE && !keeps {
            return;
        }
        let mut batch = Vec::new();
        for number in 0..6 {
            fill(raw, number, BEFORE - number as u8);
            let parts: &[_] = match number {
                1 => &[(Unshared, 0, 7), (Data(8), 0, 7)],
                3 => &[(Unshared, 0, 7)],
                _ => &[(Data(number), 0, 7)],
            };
            let sector = middle + 8 * number as u64;
            let count = parts.len() as u16;
            batch.push(requests::direct(raw, operation, count, sector, parts));
        }
        raw.send_all(&batch);
        // They may be answered in any order.
        for _ in &batch {
            let Some(response) = raw.response(TIMEOUT).await else {
                cx.check(false, format_args!("a batch with bad requests: one has no answer"));
                return;
            };
            let is_its = |request: &Vec<u8>| request[8..16] == response.id.to_le_bytes();
            let number = batch.iter().position(is_its);
            let good = number.is_some_and(|number| number != 1 && number != 3);
            cx.check(
                number.is_some() && good == (response.status == abi::RSP_OKAY),
                format_args!(
                    "in a batch of operation {operation} with bad requests, number {number:?} \
                     was answered with {}",
                    response.status
                ),
            );
        }
        if operation == abi::OP_WRITE {
            for number in [0, 2, 4, 5] {
                let read = page(raw, abi::OP_READ, middle + 8 * number, 9).await;
                let value = BEFORE - number as u8;
                cx.check(
                    read && is_filled(raw, 9, value),
                    format_args!("write {number} of a batch with bad ones was not done"),
                );
            }
        }
    }
}

/// A field of the slot changes once the backend has seen the request (XSA-155): its effect and its
/// response must both belong to one of the two values. Only one field changes at a time, and only
/// such as no response lies over.
pub async fn rewritten(cx: &Context<'_>, raw: &mut dyn Raw, info: &Info) {
    let middle = info.sectors / 2 / 8 * 8;
    let mut random = crate::random::Random::new(cx.plan.seed ^ 1);
    for round in 0..ROUNDS {
        fill(raw, 0, BEFORE);
        fill(raw, 1, round as u8);
        if !page(raw, abi::OP_WRITE, middle, 0).await {
            return;
        }
        let writes = round % 2 == 0;
        let operation = if writes { abi::OP_WRITE } else { abi::OP_READ };
        let mut batch = Vec::new();
        // A barrier or a flush before it, for which it may have to wait.
        let before = if info.barrier { abi::OP_WRITE_BARRIER } else { abi::OP_FLUSH_DISKCACHE };
        let waits = round % 4 < 2 && (info.barrier || info.flush);
        if waits {
            batch.push(requests::direct(raw, before, 0, 0, &[]));
        }
        let request = requests::direct(raw, operation, 1, middle, &[(Data(1), 0, 7)]);
        batch.push(request.clone());
        raw.send_all(&batch);
        cx.env.sleep(Duration::from_micros(random.below(120))).await;
        // Now it lies beyond the end, or its segment leaves the page, or it does the opposite.
        match round / 4 % 3 {
            0 => raw.rewrite(16, &info.sectors.to_le_bytes()),
            1 => raw.rewrite(29, &[200]),
            _ => raw.rewrite(0, &[operation ^ 1]),
        }
        let mut response = raw.response(TIMEOUT).await;
        if waits {
            let second = raw.response(TIMEOUT).await;
            // They may be answered in any order.
            let is_its = |response: &Response| response.operation != before;
            response = if second.as_ref().is_some_and(is_its) { second } else { response };
        }
        let Some(response) = response else {
            cx.check(false, format_args!("a request that changes under way has no answer"));
            return;
        };
        let done = response.status == abi::RSP_OKAY;
        let wrote = response.operation == abi::OP_WRITE && done;
        let brought = is_filled(raw, 1, BEFORE) && done;
        let read = page(raw, abi::OP_READ, middle, 2).await;
        let holds = if is_filled(raw, 2, round as u8) {
            true
        } else {
            cx.check(
                read && is_filled(raw, 2, BEFORE),
                format_args!("a request that changed under way left a mixture on the disk"),
            );
            false
        };
        cx.check(
            holds == wrote && brought == (done && !wrote),
            format_args!(
                "round {round}: a request that changed under way was answered as operation {} with \
                 {}, and did otherwise: it was read twice (XSA-155)",
                response.operation, response.status
            ),
        );
    }
}

/// Connections that end with writes in flight: none of them may reach the disk after the backend
/// has closed.
pub async fn cut_off(cx: &Context<'_>, info: &Info) -> Result<(), Error> {
    let middle = info.sectors / 2 / 8 * 8;
    for round in 0..4u8 {
        let mut raw = cx.env.raw(cx.vdev, Rings::ONE, &[]).await?;
        fill(&*raw, 0, 0xf0 | round);
        let write = |number: u64| {
            requests::direct(&*raw, abi::OP_WRITE, 1, middle + 16 * number, &[(Data(0), 0, 7)])
        };
        let batch: Vec<_> = (0..7).map(write).collect();
        raw.send_all(&batch);
        cx.env.sleep(Duration::from_micros(10 * u64::from(round))).await;
        raw.state("5").await;
        let closed = raw.close().await;
        cx.works(closed, format_args!("closing with writes in flight"));
        let disk = cx.env.attach(cx.vdev, &Config::default()).await?;
        let (new, mut bytes) = (vec![round; 104 * SECTOR], vec![0; 104 * SECTOR]);
        let mut moved = disk.io(Io::Write(middle, &new)).await;
        cx.env.sleep(Duration::from_millis(100)).await;
        moved = moved.and(disk.io(Io::Read(middle, &mut bytes)).await);
        disk.close().await.and(moved)?;
        cx.check(
            bytes == new,
            format_args!("a write of a connection that was closed reached the disk afterwards"),
        );
    }
    Ok(())
}
