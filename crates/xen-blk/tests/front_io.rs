//! Reading and writing, with every combination of features.

mod common;

use common::backend::{self, Backend, Store, all_keys, least_keys, with};
use common::{Bench, DOM0, Error, GUEST, SECTORS, pattern};
use proptest::prelude::*;
use xen_abi::blkif;
use xen_blk::front::{Blocks, Config, End, Op};
use xen_blk::protocol::wire::Abi;
use xen_blk::protocol::{DiscardInfo, Units};

/// Connects, lets `work` use the disk, and closes; gives what the backend was asked for.
fn with_disk<F>(
    keys: backend::Keys,
    config: Config,
    store: Store,
    work: impl FnOnce(common::Host, xen_blk::front::Disk<xen_sim::Domain>) -> F,
) -> Vec<(u8, u64)>
where
    F: Future<Output = ()> + 'static,
{
    let mut bench = Bench::new();
    let (dom0, guest) = (bench.host(DOM0), bench.host(GUEST));
    let serving = bench.sim.spawn(&dom0.domain.clone(), async move {
        Backend::start(&dom0, &store, &keys).await.serve().await
    });
    let (disk, driver) = bench.run({
        let guest = guest.clone();
        async move { guest.attach(&config).await.unwrap() }
    });
    let work = work(guest, disk.clone());
    bench.run(async move {
        work.await;
        disk.close().await;
        assert_eq!(driver.join().await.unwrap(), End::Closed);
        serving.join().await
    })
}

#[test]
fn data_is_read_back_with_any_features() {
    let rings = [1, 2, 4, 8, 16];
    for (case, ring_pages) in rings.into_iter().enumerate() {
        for queues in [1, 3] {
            for indirect_segments in [0, 64, 4096] {
                for abi in [Abi::X86_64, Abi::X86_32] {
                    let persistent = case % 2 == 0;
                    let config = Config::default().with(|config| {
                        config.ring_pages = ring_pages;
                        config.queues = queues;
                        config.indirect_segments = indirect_segments;
                        config.abi = abi;
                        config.persistent = persistent;
                    });
                    let keys = with(all_keys(), "feature-max-indirect-segments", 4096);
                    with_disk(keys, config, Store::new(SECTORS), move |_, disk| async move {
                        let info = disk.info();
                        assert_eq!(
                            (info.ring_pages, info.queues, info.abi),
                            (ring_pages, queues, abi)
                        );
                        assert_eq!(
                            (info.indirect_segments, info.persistent),
                            (indirect_segments, persistent)
                        );
                        let data = pattern(7, 1 << 20);
                        disk.write(3, &data).await.unwrap();
                        let mut back = vec![0; data.len()];
                        disk.read(3, &mut back).await.unwrap();
                        assert!(back == data);
                        let mut part = [0; 512];
                        disk.read(4, &mut part).await.unwrap();
                        assert_eq!(part, data[512..1024]);
                        disk.flush().await.unwrap();
                    });
                }
            }
        }
    }
}

#[test]
fn plain_backend_is_enough() {
    let log =
        with_disk(least_keys(), Config::default(), Store::new(SECTORS), |_, disk| async move {
            let info = disk.info();
            assert_eq!(
                (info.sectors, info.sector_size, info.ring_pages, info.queues),
                (SECTORS, 512, 1, 1)
            );
            assert_eq!((info.flush, info.barrier, info.discard), (false, false, None));
            assert_eq!(
                (info.indirect_segments, info.persistent, info.max_transfer),
                (0, false, 11 * 4096)
            );
            assert_eq!(info.notes, []);
            assert!(matches!(disk.flush().await, Err(Error::Unsupported(Op::Flush))));
            assert!(matches!(
                disk.barrier(0, &[0; 512]).await,
                Err(Error::Unsupported(Op::Barrier))
            ));
            assert!(matches!(
                disk.discard(0, 8, false).await,
                Err(Error::Unsupported(Op::Discard))
            ));
            let data = pattern(1, 12 * 4096);
            disk.write(0, &data).await.unwrap();
            let mut back = vec![0; data.len()];
            disk.read(0, &mut back).await.unwrap();
            assert!(back == data);
        });
    // Each in two requests: 11 pages, then one.
    assert_eq!(log, [(1, 0), (1, 88), (0, 0), (0, 88)]);
}

#[test]
fn flush_barrier_discard_reach_the_ring() {
    let store = Store::new(SECTORS);
    let content = store.clone();
    let log = with_disk(all_keys(), Config::default(), store, |_, disk| async move {
        let info = disk.info();
        let discard = DiscardInfo { granularity: 4096, alignment: 0, secure: true };
        assert_eq!((info.flush, info.barrier, info.discard), (true, true, Some(discard)));
        disk.write(0, &[1; 4096]).await.unwrap();
        disk.flush().await.unwrap();
        disk.barrier(8, &[2; 512]).await.unwrap();
        disk.barrier(0, &[]).await.unwrap();
        disk.discard(0, 8, false).await.unwrap();
        disk.discard(16, SECTORS - 16, true).await.unwrap();
        // A barrier cannot be indirect: it becomes several, each a barrier.
        disk.barrier(16, &[3; 20 * 4096]).await.unwrap();
    });
    let (write, barrier, flush, discard) =
        (blkif::OP_WRITE, blkif::OP_WRITE_BARRIER, blkif::OP_FLUSH_DISKCACHE, blkif::OP_DISCARD);
    let expected = [
        (write, 0),
        (flush, 0),
        (barrier, 8),
        (barrier, 0),
        (discard, 0),
        (discard, 16),
        (barrier, 16),
        (barrier, 104),
    ];
    assert_eq!(log, expected);
    assert_eq!(content.0.borrow()[8 * 512], 2);
    assert_eq!(content.0.borrow()[7 * 512], 0xdd);
}

#[test]
fn impossible_request_is_refused_before_sending() {
    let keys = with(with(all_keys(), "sector-size", 4096), "info", 0);
    let log = with_disk(keys, Config::default(), Store::new(SECTORS), |_, disk| async move {
        assert_eq!(disk.info().sectors, SECTORS);
        let wrong = disk.read(SECTORS, &mut [0; 4096]).await;
        assert_eq!(
            wrong,
            Err(Error::OutOfRange { op: Op::Read, sector: SECTORS, count: 8, sectors: SECTORS })
        );
        assert!(matches!(
            disk.read(u64::MAX - 7, &mut [0; 8192]).await,
            Err(Error::OutOfRange { .. })
        ));
        for (sector, len) in [(0, 512), (1, 4096), (0, 0), (0, 4097)] {
            let wrong = disk.write(sector, &vec![0; len]).await;
            let expected =
                Error::Unaligned { op: Op::Write, sector, len: len as u64, sector_size: 4096 };
            assert_eq!(wrong, Err(expected));
        }
        assert!(matches!(disk.discard(0, u64::MAX, false).await, Err(Error::OutOfRange { .. })));
        assert!(matches!(disk.discard(8, SECTORS, false).await, Err(Error::OutOfRange { .. })));
    });
    assert_eq!(log, []);
    let log = with_disk(
        with(all_keys(), "info", 7),
        Config::default(),
        Store::new(SECTORS),
        |_, disk| async move {
            let info = disk.info();
            assert!(info.read_only && info.cdrom && info.removable);
            assert_eq!(disk.write(0, &[0; 512]).await, Err(Error::ReadOnly(Op::Write)));
            assert_eq!(disk.discard(0, 8, false).await, Err(Error::ReadOnly(Op::Discard)));
            disk.read(0, &mut [0; 512]).await.unwrap();
        },
    );
    assert_eq!(log, [(0, 0)]);
}

#[test]
fn disk_above_two_tebibytes_is_used_to_its_end() {
    let sectors = (1u64 << 33) + 5;
    let mut bench = Bench::new();
    let (dom0, guest) = (bench.host(DOM0), bench.host(GUEST));
    let keys = with(all_keys(), "sectors", sectors);
    let serving = bench.sim.spawn(&dom0.domain.clone(), async move {
        let mut backend = Backend::start(&dom0, &Store::new(1), &keys).await;
        let mut seen = Vec::new();
        while let Some((queue, request)) = backend.next().await {
            if let Ok(xen_blk::protocol::wire::RawRequest::Direct { sector, .. }) = &request.request
            {
                seen.push(*sector);
            }
            backend.refuse(queue, &request, 0);
        }
        backend.close().await;
        seen
    });
    let seen = bench.run(async move {
        let (disk, _driver) = guest.attach(&Config::default()).await.unwrap();
        assert_eq!(disk.info().sectors, sectors);
        disk.read(sectors - 1, &mut [0; 512]).await.unwrap();
        assert!(matches!(
            disk.read(sectors - 1, &mut [0; 1024]).await,
            Err(Error::OutOfRange { .. })
        ));
        disk.close().await;
        serving.join().await
    });
    assert_eq!(seen, [sectors - 1]);
}

#[test]
fn shared_buffer_is_moved_without_a_copy() {
    let stats = std::rc::Rc::new(std::cell::Cell::new(None));
    let seen = stats.clone();
    with_disk(all_keys(), Config::default(), Store::new(SECTORS), |_, disk| async move {
        let buffer = disk.buffer(40).unwrap();
        let data = pattern(9, 40 * 4096);
        buffer.write(0, &data);
        // From the middle of a page on, direct and indirect.
        disk.write_from(10, &buffer, 1536..9216).await.unwrap();
        disk.write_from(100, &buffer, 512..40 * 4096).await.unwrap();
        let mut back = vec![0; 7680];
        disk.read(10, &mut back).await.unwrap();
        assert!(back == data[1536..9216]);
        let other = disk.buffer(40).unwrap();
        disk.read_into(100, &other, 3072..40 * 4096).await.unwrap();
        let mut back = vec![0; 40 * 4096 - 3072];
        other.read(3072, &mut back);
        assert!(back == data[512..][..back.len()]);
        seen.set(Some(disk.stats()));
    });
    let stats = stats.take().unwrap();
    assert_eq!((stats.requests, stats.responses, stats.in_flight), (4, 4, 0));
}

#[test]
fn units_count_as_their_backends_do() {
    for (name, units) in Units::NAMED {
        let config = Config::default().with(|config| {
            config.units = units;
            config.indirect_segments = 0;
        });
        let in_sectors =
            |unit| if unit == xen_blk::protocol::Unit::Sector512 { SECTORS } else { SECTORS / 8 };
        let keys =
            with(with(all_keys(), "sector-size", 4096), "sectors", in_sectors(units.sectors));
        let mut bench = Bench::new();
        let (dom0, guest) = (bench.host(DOM0), bench.host(GUEST));
        let serving = bench.sim.spawn(&dom0.domain.clone(), async move {
            let mut backend = Backend::start(&dom0, &Store::new(1), &keys).await;
            let mut seen = Vec::new();
            while let Some((queue, request)) = backend.next().await {
                match &request.request {
                    Ok(xen_blk::protocol::wire::RawRequest::Direct {
                        sector, segments, ..
                    }) => {
                        seen.push((
                            *sector,
                            segments.iter().map(|s| (s.first, s.last)).collect::<Vec<_>>(),
                        ));
                    }
                    Ok(xen_blk::protocol::wire::RawRequest::Discard { sector, count, .. }) => {
                        seen.push((*sector, vec![(*count as u8, 0)]))
                    }
                    other => panic!("{other:?}"),
                }
                backend.refuse(queue, &request, 0);
            }
            backend.close().await;
            seen
        });
        let seen = bench.run(async move {
            let (disk, _driver) = guest.attach(&config).await.unwrap();
            assert_eq!(disk.info().sectors, SECTORS, "{name}");
            disk.write(16, &[0; 8192]).await.unwrap();
            disk.discard(16, 24, false).await.unwrap();
            disk.close().await;
            serving.join().await
        });
        let unit = if units.sector_number == xen_blk::protocol::Unit::Sector512 { 1 } else { 8 };
        let last = if units.segment == xen_blk::protocol::Unit::Sector512 { 7 } else { 0 };
        assert_eq!(
            seen,
            [(16 / unit, vec![(0, last); 2]), (16 / unit, vec![((24 / unit) as u8, 0)])],
            "{name}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(30))]

    /// Many tasks, each on its own part of the disk, in any order of events: each finds what it
    /// wrote.
    #[test]
    fn tasks_do_not_disturb_each_other(
        seed: u64,
        jobs in prop::collection::vec((1usize..200, any::<bool>()), 1..24),
        ring_pages in 1u32..=2,
        queues in 1u32..=3,
        indirect in prop_oneof![Just(0u32), Just(32)],
        bounce_pages in 0u32..100,
    ) {
        let mut bench = Bench::with_seed(seed);
        let (dom0, guest) = (bench.host(DOM0), bench.host(GUEST));
        let config = Config::default().with(|config| {
            config.ring_pages = ring_pages;
            config.queues = queues;
            config.indirect_segments = indirect;
            config.bounce_pages = bounce_pages;
        });
        let keys = with(all_keys(), "sectors", 200 * 24);
        let serving = bench.sim.spawn(&dom0.domain.clone(), async move {
            Backend::start(&dom0, &Store::new(200 * 24), &keys).await.serve().await
        });
        bench.run(async move {
            let (disk, driver) = guest.attach(&config).await.unwrap();
            let tasks: Vec<_> = jobs.into_iter().enumerate().map(|(n, (sectors, drop_one))| {
                let disk = disk.clone();
                guest.spawn(async move {
                    let at = n as u64 * 200;
                    let data = pattern(n as u64, sectors * 512);
                    disk.write(at, &data).await.unwrap();
                    if drop_one {
                        let mut unwanted = vec![0; data.len()];
                        let mut read = disk.read(at, &mut unwanted);
                        std::future::poll_fn(|cx| { let _ = std::pin::Pin::new(&mut read).poll(cx); std::task::Poll::Ready(()) }).await;
                    }
                    let mut back = vec![0; data.len()];
                    disk.read(at, &mut back).await.unwrap();
                    assert!(back == data, "task {n}");
                })
            }).collect();
            for task in tasks {
                task.join().await;
            }
            disk.close().await;
            assert_eq!(driver.join().await.unwrap(), End::Closed);
            serving.join().await;
        });
    }
}

#[test]
fn disk_is_a_block_device() {
    use block_device_driver::{BlockDevice, slice_to_blocks, slice_to_blocks_mut};
    let keys = with(all_keys(), "sector-size", 4096);
    with_disk(keys, Config::default(), Store::new(SECTORS), |_, disk| async move {
        assert!(Blocks::<_, 512>::new(&disk).is_err());
        let mut blocks = Blocks::<_, 4096>::new(&disk).unwrap();
        assert_eq!(blocks.size().await.unwrap(), SECTORS * 512);
        let data = pattern(4, 3 * 4096);
        blocks.write(2, slice_to_blocks(&data)).await.unwrap();
        let mut back = vec![0; data.len()];
        disk.read(16, &mut back).await.unwrap();
        assert!(back == data);
        back.fill(0);
        blocks.read(2, slice_to_blocks_mut(&mut back)).await.unwrap();
        assert!(back == data);
    });
}
