//! Our client at our server.

mod common;

use common::{Memory, TIMEOUT, connect, pair};
use proptest::prelude::*;
use std::sync::Arc;
use std::time::Duration;
use xen_nbd::client::Failure;
use xen_nbd::wire::{CommandFlags, Extent};

const SECTOR: u64 = 512;

/// A request, in sectors.
#[derive(Clone, Debug)]
enum Op {
    Read { at: u64, count: u64 },
    Write { at: u64, count: u64, byte: u8, fua: bool },
    Zero { at: u64, count: u64 },
    Trim { at: u64, count: u64 },
    Flush,
    Extents { at: u64, count: u64 },
}

fn ops(sectors: u64) -> impl Strategy<Value = Vec<Op>> {
    let run = move || (0..sectors + 2, 1..sectors / 2);
    let op = prop_oneof![
        4 => run().prop_map(|(at, count)| Op::Read { at, count }),
        6 => (run(), any::<u8>(), any::<bool>())
            .prop_map(|((at, count), byte, fua)| Op::Write { at, count, byte, fua }),
        2 => run().prop_map(|(at, count)| Op::Zero { at, count }),
        2 => run().prop_map(|(at, count)| Op::Trim { at, count }),
        1 => Just(Op::Flush),
        2 => run().prop_map(|(at, count)| Op::Extents { at, count }),
    ];
    proptest::collection::vec(op, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn disk_through_client_and_server_agrees_with_its_bytes(
        ops in ops(2000), now in any::<bool>(), slow in any::<bool>(),
    ) {
        let delay = Duration::from_micros(if slow { 400 } else { 0 });
        let memory = Arc::new(Memory { now, delay, ..Memory::new(2000 * 512) });
        let (_server, connection) = pair(memory.clone());
        let mut model = vec![0; 2000 * 512];
        for op in ops {
            let fits = |at: u64, count: u64| at + count <= 2000;
            let bytes = |at: u64, count: u64| {
                (at * SECTOR) as usize..((at + count) * SECTOR) as usize
            };
            match op {
                Op::Read { at, count } => {
                    let mut to = vec![1; (count * SECTOR) as usize];
                    let done = connection.read(at * SECTOR, &mut to);
                    prop_assert_eq!(done.is_ok(), fits(at, count));
                    prop_assert!(done.is_err() || to == model[bytes(at, count)]);
                }
                Op::Write { at, count, byte, fua } => {
                    let data: Vec<u8> =
                        (0..count * SECTOR).map(|n| byte ^ (n / 7) as u8).collect();
                    let before = *memory.flushes.lock().unwrap();
                    let flags = if fua { CommandFlags::FUA } else { CommandFlags::empty() };
                    let done = connection.write(at * SECTOR, &data, flags);
                    prop_assert_eq!(done.is_ok(), fits(at, count));
                    if done.is_ok() {
                        model[bytes(at, count)].copy_from_slice(&data);
                        let flushed = *memory.flushes.lock().unwrap() - before;
                        prop_assert_eq!(flushed, u32::from(fua));
                    }
                }
                Op::Zero { at, count } => {
                    let flags = CommandFlags::NO_HOLE;
                    let done =
                        connection.write_zeroes(at * SECTOR, (count * SECTOR) as u32, flags);
                    prop_assert_eq!(done.is_ok(), fits(at, count));
                    if done.is_ok() {
                        model[bytes(at, count)].fill(0);
                    }
                }
                Op::Trim { at, count } => {
                    let done = connection.trim(at * SECTOR, (count * SECTOR) as u32);
                    prop_assert_eq!(done.is_ok(), fits(at, count));
                    if done.is_ok() {
                        model[bytes(at, count)].fill(0);
                    }
                }
                Op::Flush => prop_assert!(connection.flush().is_ok()),
                Op::Extents { at, count } => {
                    let found = connection.extents(at * SECTOR, (count * SECTOR) as u32);
                    prop_assert_eq!(found.is_ok(), fits(at, count));
                    let mut here = at * SECTOR;
                    for Extent { len, zero, .. } in found.unwrap_or_default() {
                        let part = &model[here as usize..][..len as usize];
                        prop_assert!(!zero || part.iter().all(|byte| *byte == 0));
                        here += u64::from(len);
                    }
                }
            }
        }
        prop_assert!(*memory.bytes.lock().unwrap() == model);
    }
}

#[test]
fn many_threads_share_connections_and_each_gets_its_own_data() {
    for delay in [Duration::ZERO, Duration::from_micros(500)] {
        let memory = Arc::new(Memory { delay, ..Memory::new(64 << 20) });
        let (server, first) = pair(memory.clone());
        let connections = [first, connect(&server)];
        std::thread::scope(|scope| {
            for thread in 0..24u64 {
                let connection = &connections[thread as usize % 2];
                scope.spawn(move || {
                    let len = [512, 4096, 70_000 / 512 * 512, 1 << 20][thread as usize % 4];
                    for round in 0..40u64 {
                        let at = thread * (2 << 20) + round % 2 * (1 << 20);
                        let byte = (thread * 31 + round) as u8;
                        let none = CommandFlags::empty();
                        connection.write(at, &vec![byte; len], none).unwrap();
                        let mut to = vec![0; len];
                        connection.read(at, &mut to).unwrap();
                        assert!(to.iter().all(|found| *found == byte), "thread {thread}");
                    }
                });
            }
        });
        drop(connections);
        assert!(server.stop(TIMEOUT));
    }
}

#[test]
fn error_in_the_middle_of_a_long_read_is_told_and_the_connection_goes_on() {
    let bad = Some(700 << 10..(700 << 10) + 512);
    let memory = Arc::new(Memory { bad, ..Memory::new(4 << 20) });
    let (_server, connection) = pair(memory);
    let mut to = vec![0; 1 << 20];
    let error = connection.read(0, &mut to).unwrap_err();
    assert!(matches!(&error, Failure::Refused(error) if error.to_string().contains("bad sector")));
    connection.read(1 << 20, &mut to).unwrap();
}

#[test]
fn read_only_export_refuses_every_change() {
    let memory = Arc::new(Memory { read_only: true, ..Memory::new(1 << 20) });
    let (_server, connection) = pair(memory);
    let none = CommandFlags::empty();
    for done in [
        connection.write(0, &[1; 512], none),
        connection.write_zeroes(0, 512, none),
        connection.trim(0, 512),
    ] {
        let Err(Failure::Refused(error)) = done else { panic!("{done:?}") };
        assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied);
    }
    connection.read(0, &mut [0; 512]).unwrap();
    assert!(connection.read(1, &mut [0; 512]).is_err());
}

#[test]
fn server_that_stops_answers_what_it_took() {
    let memory =
        Arc::new(Memory { delay: Duration::from_millis(50), now: false, ..Memory::new(1 << 20) });
    let (server, connection) = pair(memory.clone());
    let none = CommandFlags::empty();
    // The first call is made on the thread that reads; the others elsewhere.
    connection.write(0, &[1; 512], none).unwrap();
    std::thread::scope(|scope| {
        let writes: Vec<_> = (1..9)
            .map(|n| {
                let connection = &connection;
                scope.spawn(move || connection.write(n * 512, &[n as u8; 512], none))
            })
            .collect();
        std::thread::sleep(Duration::from_millis(20));
        assert!(server.stop(TIMEOUT));
        for (n, write) in (1..).zip(writes) {
            let acknowledged = write.join().unwrap().is_ok();
            let there = memory.bytes.lock().unwrap()[n * 512] == n as u8;
            assert!(there || !acknowledged, "write {n}");
        }
    });
    assert!(connection.flush().is_err() && connection.is_lost());
}
