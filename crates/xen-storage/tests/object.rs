//! Disks in an object store against the model, cut off at any request to the store.
#![cfg(feature = "object")]

mod common;

use common::objects::{Client, Memory, options};
use common::{Allowed, Model, Op, ops};
use proptest::prelude::*;
use std::io;
use std::sync::atomic::Ordering;
use std::time::Duration;
use xen_storage::storage::Storage;
use xen_storage::storage::object::{CHUNK, Collect, Fenced, InUse, Make, Object, Options, collect};

/// A little more than one chunk of 16 KiB, and not whole blocks.
const BYTES: u64 = 3 * SMALL as u64 + 24 * 512;
const SMALL: u32 = 16 << 10;

fn make(bytes: u64) -> Make {
    Make { chunk: SMALL, ..Make::new(bytes) }
}

fn create(store: &Memory, make: &Make) {
    Object::create(&store.client(), "disk", make).unwrap();
}

/// Opens a disk that a killed program had, too.
fn open_with(client: Client, options: Options) -> io::Result<Object<Client>> {
    Object::open(client, "disk", Options { take_over: true, ..options })
}

fn open(store: &Memory) -> Object<Client> {
    open_with(store.client(), options()).unwrap()
}

/// Makes a checkpoint now and then among operations.
fn run_all(allowed: &mut Allowed, disk: &Object<Client>, ops: &[Op], every: usize) {
    for ops in ops.chunks(every) {
        if !allowed.run(disk, ops) {
            return;
        }
        let _ = disk.checkpoint();
    }
}

/// All ways to keep a disk.
fn makes() -> impl Strategy<Value = Make> {
    (proptest::option::of(Just(1)), proptest::option::of(Just([9; 32])))
        .prop_map(|(zstd, key)| Make { zstd, key, ..make(BYTES) })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn disk_is_what_the_model_is(ops in ops(BYTES / 512, true), make in makes(), every in 3usize..30) {
        let store = Memory::default();
        create(&store, &make);
        let options = Options { key: make.key, ..options() };
        let mut model = Model::of(&[0; BYTES as usize]);
        let disk = open_with(store.client(), options.clone()).unwrap();
        for ops in ops.chunks(every) {
            model.run(&disk, ops)?;
            disk.flush().unwrap();
            disk.checkpoint().unwrap();
            model.run(&disk, &[])?;
        }
        drop(disk);
        model.run(&open_with(store.client(), options.clone()).unwrap(), &[])?;
        let read_only = Options { read_only: true, ..options };
        model.run(&Object::open(store.client(), "disk", read_only).unwrap(), &[])?;
    }

    #[test]
    fn flushed_writes_survive_a_kill_at_any_request(
        ops in ops(BYTES / 512, false), left in 1u64..60, last_is_done: bool, every in 3usize..30,
        make in makes(),
    ) {
        let store = Memory::default();
        create(&store, &make);
        let options = Options { key: make.key, ..options() };
        let mut allowed = Allowed::of(&[0; BYTES as usize]);
        if let Ok(disk) = open_with(store.cut(left, last_is_done), options.clone()) {
            run_all(&mut allowed, &disk, &ops, every);
        }
        let disk = open_with(store.client(), options.clone()).unwrap();
        allowed.check(&disk)?;
        // And goes on, with garbage collected meanwhile.
        let how = Collect { settle: Duration::ZERO, ..Collect::new(Duration::ZERO) };
        collect(&store.client(), &how).unwrap();
        allowed.check(&disk)?;
        disk.checkpoint().unwrap();
        collect(&store.client(), &how).unwrap();
        drop(disk);
        allowed.check(&open_with(store.client(), options).unwrap())?;
    }

    #[test]
    fn new_length_is_kept_or_not(
        ops in ops(BYTES / 512, false),
        sectors in proptest::collection::vec(1..2 * BYTES / 512, 1..4),
        left in 0u64..30,
    ) {
        let store = Memory::default();
        create(&store, &make(BYTES));
        let mut model = Model::of(&[0; BYTES as usize]);
        let disk = open(&store);
        model.run(&disk, &ops)?;
        disk.flush().unwrap();
        drop(disk);
        if let Ok(disk) = open_with(store.cut(left, false), options()) {
            for bytes in sectors.iter().map(|sectors| sectors * 512) {
                if disk.resize(bytes).is_err() {
                    break;
                }
                model.0.resize(bytes as usize, Some(0));
            }
        }
        let disk = open(&store);
        prop_assert_eq!(disk.info().bytes, model.0.len() as u64);
        model.run(&disk, &[])?;
    }
}

#[test]
fn same_bytes_are_kept_once_and_garbage_is_collected() {
    let store = Memory::default();
    let open = |name: &str| {
        Object::create(&store.client(), name, &Make::new(4 * u64::from(CHUNK))).unwrap();
        Object::open(store.client(), name, options()).unwrap()
    };
    let (one, other) = (open("one"), open("other"));
    for disk in [&one, &other] {
        disk.write(0, &vec![7; CHUNK as usize]).unwrap();
        disk.write(u64::from(CHUNK), &vec![7; CHUNK as usize]).unwrap();
        disk.flush().unwrap();
    }
    assert_eq!(store.keys("chunks/").len(), 1);
    for byte in [8, 9] {
        one.write(0, &vec![byte; CHUNK as usize]).unwrap();
        one.flush().unwrap();
    }
    one.checkpoint().unwrap();
    let how = |grace| Collect { settle: Duration::ZERO, ..Collect::new(grace) };
    let young = collect(&store.client(), &how(Duration::from_secs(3600))).unwrap();
    assert_eq!((young.disks, young.removed), (2, 0));
    // Both disks are open.
    let done = collect(&store.client(), &how(Duration::ZERO)).unwrap();
    assert_eq!((done.disks, done.removed, done.removed_bytes), (2, 1, u64::from(CHUNK)));
    let mut bytes = vec![0; 2 * CHUNK as usize];
    one.read(0, &mut bytes).unwrap();
    assert!(bytes[..CHUNK as usize].iter().all(|byte| *byte == 9) && bytes[CHUNK as usize] == 7);
}

#[test]
fn disk_in_use_is_refused_and_names_its_holder() {
    let store = Memory::default();
    create(&store, &make(BYTES));
    let disk = Object::open(store.client(), "disk", options()).unwrap();
    let error = Object::open(store.client(), "disk", options()).err().unwrap();
    assert_eq!(error.kind(), io::ErrorKind::ResourceBusy);
    let in_use = error.get_ref().unwrap().downcast_ref::<InUse>().unwrap();
    assert!(in_use.holder.contains(&format!("process {}", std::process::id())), "{error}");
    assert!(!Object::create(&store.client(), "disk", &make(BYTES)).unwrap());
    // To read it is possible, as it was at its last flush.
    disk.write(0, &[1; 512]).unwrap();
    disk.flush().unwrap();
    disk.write(0, &[2; 512]).unwrap();
    let read_only = Options { read_only: true, ..options() };
    let reader = Object::open(store.client(), "disk", read_only).unwrap();
    let mut bytes = [0; 512];
    reader.read(0, &mut bytes).unwrap();
    assert_eq!(bytes, [1; 512]);
    assert!(reader.write(0, &[3; 512]).is_err() && reader.info().read_only);
    drop(disk);
    Object::open(store.client(), "disk", options()).unwrap();
}

#[test]
fn holder_of_another_machine_is_dead_once_it_does_not_renew() {
    let store = Memory::default();
    create(&store, &make(BYTES));
    std::mem::forget(Object::open(store.client(), "disk", options()).unwrap());
    let of_another_machine = |raw: &mut Vec<u8>| {
        let text = String::from_utf8(raw.clone()).unwrap();
        let (json, _) = text.split_once('\n').unwrap();
        let start = json.find("\"machine\":\"").unwrap() + 11;
        let end = start + json[start..].find('"').unwrap();
        let json = format!("{}{}{}", &json[..start], "mars", &json[end..]);
        *raw = format!("{json}\n{:08x}\n", crc32fast::hash(json.as_bytes())).into_bytes();
    };
    store.change("disks/disk", of_another_machine);
    Object::open(store.client(), "disk", options()).unwrap();
}

#[test]
fn older_holder_meets_the_fence_at_its_next_flush() {
    let store = Memory::default();
    create(&store, &make(BYTES));
    let old = Object::open(store.client(), "disk", options()).unwrap();
    old.write(0, &[1; 512]).unwrap();
    old.flush().unwrap();
    old.write(0, &[2; 512]).unwrap();
    let new = open(&store);
    new.write(512, &[3; 512]).unwrap();
    new.flush().unwrap();
    // However much happens before it comes back.
    for round in 0..20 {
        new.write(1024, &[round; 512]).unwrap();
        new.flush().unwrap();
        new.checkpoint().unwrap();
    }
    let error = old.flush().unwrap_err();
    let fenced = error.get_ref().unwrap().downcast_ref::<Fenced>().unwrap();
    assert!(fenced.holder.contains("process"), "{error}");
    for _ in 0..2 {
        assert!(old.flush().is_err() && old.write(0, &[9; 512]).is_err());
        assert!(old.read(0, &mut [0; 512]).is_err() && old.checkpoint().is_err());
    }
    drop(old);
    drop(new);
    let mut bytes = [0; 1024];
    open(&store).read(0, &mut bytes).unwrap();
    assert!(bytes[..512] == [1; 512] && bytes[512..] == [3; 512]);
}

#[test]
fn chunk_that_was_changed_in_the_store_is_not_served() {
    let store = Memory::default();
    create(&store, &Make::new(2 * u64::from(CHUNK)));
    let disk = open(&store);
    disk.write(0, &vec![1; CHUNK as usize]).unwrap();
    disk.flush().unwrap();
    drop(disk);
    store.change(&store.keys("chunks/")[0], |bytes| bytes[99] ^= 1);
    let error = open(&store).read(0, &mut [0; 512]).unwrap_err();
    assert!(error.to_string().contains("damaged"), "{error}");
}

#[test]
fn write_while_the_length_changes_is_kept() {
    let store = Memory::default();
    create(&store, &make(BYTES));
    let disk = open(&store);
    disk.write(BYTES - 512, &[1; 512]).unwrap();
    disk.resize(BYTES + 512).unwrap();
    disk.write(BYTES, &[2; 512]).unwrap();
    disk.resize(BYTES - 512).unwrap();
    assert!(disk.write(BYTES - 512, &[3; 512]).is_err());
    disk.resize(4 * BYTES).unwrap();
    let mut bytes = [9; 1024];
    disk.read(BYTES - 512, &mut bytes).unwrap();
    assert_eq!(bytes, [0; 1024], "new bytes are zero");
    assert!(
        disk.resize(0).is_err()
            && disk.resize(700).is_err()
            && disk.resize(u64::MAX - 511).is_err()
    );
}

/// Random numbers, the same each time.
fn random(seed: u64) -> impl Iterator<Item = u64> {
    (1..).map(move |n: u64| {
        let x = (n ^ seed << 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (x ^ x >> 31).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 11
    })
}

#[test]
fn write_amplification_of_random_blocks_is_less_than_sixteen() {
    let store = Memory::default();
    create(&store, &Make::new(1 << 30));
    let disk = open(&store);
    // A disk that is full of something: 16 MiB of it are written at random.
    let hot = 16 << 20;
    for chunk in 0..hot / u64::from(CHUNK) {
        disk.write(chunk * u64::from(CHUNK), &vec![chunk as u8 + 1; CHUNK as usize]).unwrap();
    }
    disk.flush().unwrap();
    disk.checkpoint().unwrap();
    let before = store.put_bytes.load(Ordering::Relaxed);
    let mut written = 0u64;
    for (n, place) in (1u64..).zip(random(7)).take(4 << 10) {
        let block: Vec<u8> = place.to_le_bytes().repeat(512);
        disk.write(place % (hot / 4096) * 4096, &block).unwrap();
        written += 4096;
        if n % 16 == 0 {
            disk.flush().unwrap();
        }
        if n % 512 == 0 {
            disk.checkpoint().unwrap();
        }
    }
    let put = store.put_bytes.load(Ordering::Relaxed) - before;
    let amplification = put as f64 / written as f64;
    println!("{amplification:.1} bytes were put for each that was written");
    assert!(amplification < 16.0, "{amplification}");
}

#[test]
fn flush_of_a_block_costs_one_small_request_however_long_the_disk_is() {
    for bytes in [1 << 30, 4 << 40] {
        let store = Memory::default();
        create(&store, &Make::new(bytes));
        let disk = open(&store);
        for place in random(3).take(200) {
            disk.write(place % (bytes / 4096) * 4096, &[place as u8 | 1; 4096]).unwrap();
        }
        disk.flush().unwrap();
        disk.checkpoint().unwrap();
        let (requests, put) =
            (store.requests.load(Ordering::Relaxed), store.put_bytes.load(Ordering::Relaxed));
        disk.write(bytes / 2, &[7; 4096]).unwrap();
        disk.flush().unwrap();
        assert_eq!(store.requests.load(Ordering::Relaxed) - requests, 1, "{bytes}");
        let put = store.put_bytes.load(Ordering::Relaxed) - put;
        assert!(put < 4096 + 512, "{bytes}: {put}");
    }
}

#[test]
fn discard_of_a_long_range_is_short() {
    let store = Memory::default();
    create(&store, &Make::new(1 << 40));
    let disk = open(&store);
    disk.write(1 << 30, &[1; 4096]).unwrap();
    disk.flush().unwrap();
    disk.checkpoint().unwrap();
    let put = store.put_bytes.load(Ordering::Relaxed);
    disk.discard(0, 256 << 30, false).unwrap();
    disk.flush().unwrap();
    disk.checkpoint().unwrap();
    assert!(store.put_bytes.load(Ordering::Relaxed) - put < 4096);
    let mut bytes = [9; 4096];
    disk.read(1 << 30, &mut bytes).unwrap();
    assert_eq!((bytes, disk.next_data(0).unwrap()), ([0; 4096], None));
}

#[test]
fn parts_with_data_are_found() {
    let store = Memory::default();
    create(&store, &Make::new(1 << 40));
    let disk = open(&store);
    for at in [4096, 8192, 1 << 39] {
        disk.write(at, &[1; 4096]).unwrap();
    }
    let ranges = || {
        let mut found = Vec::new();
        let mut at = 0;
        while let Some(range) = disk.next_data(at).unwrap() {
            at = range.end;
            found.push(range);
        }
        found
    };
    let expected = [4096..12288, 1 << 39..(1 << 39) + 4096];
    assert_eq!(ranges(), expected);
    disk.flush().unwrap();
    assert_eq!(ranges(), expected);
    disk.checkpoint().unwrap();
    assert_eq!(ranges(), expected);
}

#[test]
fn fingerprint_changes_with_the_contents_alone() {
    let store = Memory::default();
    create(&store, &make(BYTES));
    let disk = open(&store);
    disk.write(0, &[1; 512]).unwrap();
    let first = disk.fingerprint().unwrap();
    disk.checkpoint().unwrap();
    drop(disk);
    let disk = open(&store);
    assert_eq!(disk.fingerprint().unwrap(), first);
    let reader =
        Object::open(store.client(), "disk", Options { read_only: true, ..options() }).unwrap();
    assert_eq!(reader.fingerprint().unwrap(), first);
    disk.write(0, &[1; 512]).unwrap();
    assert_ne!(disk.fingerprint().unwrap(), first);
}

#[test]
fn long_log_is_shortened_by_itself() {
    let store = Memory::default();
    create(&store, &make(BYTES));
    let disk = open_with(store.client(), Options { checkpoint: 8, ..options() }).unwrap();
    for n in 0..200u64 {
        disk.write(n % 7 * 512, &[n as u8; 512]).unwrap();
        disk.flush().unwrap();
        if n % 8 == 0 {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    drop(disk);
    assert!(store.keys("logs/").len() < 100, "{}", store.keys("logs/").len());
    let mut bytes = [0; 512];
    open(&store).read(3 * 512, &mut bytes).unwrap();
    assert_eq!(bytes, [199; 512]);
}

/// A manifest as the first version made it, and its chunks.
fn put_old(client: &Client, bytes: u64, chunks: &[Option<Vec<u8>>]) {
    use xen_storage::storage::object::Objects;
    let mut raw = b"RSdisk01".to_vec();
    raw.extend_from_slice(&bytes.to_le_bytes());
    raw.extend_from_slice(&SMALL.to_le_bytes());
    raw.extend_from_slice(&[0; 12]);
    for chunk in chunks {
        let hash = chunk.as_ref().map(|chunk| blake3::hash(chunk));
        raw.extend_from_slice(hash.as_ref().map_or(&[0; 32], |hash| hash.as_bytes()));
        if let (Some(hash), Some(chunk)) = (hash, chunk) {
            client.put(&format!("chunks/{}", hash.to_hex()), chunk).unwrap();
        }
    }
    let sum = crc32fast::hash(&raw);
    raw[20..24].copy_from_slice(&sum.to_le_bytes());
    client.put("disks/disk", &raw).unwrap();
}

#[test]
fn disk_in_the_first_format_is_read_and_converted() {
    let store = Memory::default();
    let chunk = SMALL as usize;
    let last = (BYTES % u64::from(SMALL)) as usize;
    let chunks = [Some(vec![1; chunk]), None, Some(vec![3; chunk]), Some(vec![4; last])];
    put_old(&store.client(), BYTES, &chunks);
    let expected = [vec![1; chunk], vec![0; chunk], vec![3; chunk], vec![4; last]].concat();
    let check = |disk: &Object<Client>, expected: &[u8]| {
        let mut bytes = vec![9; BYTES as usize];
        disk.read(0, &mut bytes).unwrap();
        assert!(bytes == expected);
    };
    let read_only = Options { read_only: true, ..options() };
    check(&Object::open(store.client(), "disk", read_only).unwrap(), &expected);
    let how = Collect { settle: Duration::ZERO, ..Collect::new(Duration::ZERO) };
    assert_eq!(collect(&store.client(), &how).unwrap().removed, 0);
    for left in 1..40 {
        drop(open_with(store.cut(left, left % 2 == 0), options()));
    }
    let disk = open(&store);
    check(&disk, &expected);
    disk.write(512, &[9; 512]).unwrap();
    disk.write(BYTES - 512, &[8; 512]).unwrap();
    disk.flush().unwrap();
    disk.checkpoint().unwrap();
    collect(&store.client(), &how).unwrap();
    let mut expected = expected;
    expected[512..1024].fill(9);
    expected[BYTES as usize - 512..].fill(8);
    check(&disk, &expected);
    drop(disk);
    check(&open(&store), &expected);
}

#[test]
fn full_bucket_is_read_and_collected_and_goes_on() {
    let store = Memory::default();
    let client = store.client();
    create(&store, &make(1 << 20));
    let disk = open_with(client.clone(), options()).unwrap();
    for byte in [1, 2] {
        disk.write(0, &[byte; SMALL as usize]).unwrap();
        disk.flush().unwrap();
        disk.checkpoint().unwrap();
    }
    client.over_quota.store(true, Ordering::Relaxed);
    disk.write(4096, &[3; 4096]).unwrap();
    assert_eq!(disk.flush().unwrap_err().kind(), io::ErrorKind::QuotaExceeded);
    let read_only = Options { read_only: true, ..options() };
    let reader = Object::open(client.clone(), "disk", read_only).unwrap();
    let mut bytes = [0; 8192];
    reader.read(0, &mut bytes).unwrap();
    assert_eq!(bytes, [2; 8192]);
    let how = Collect { settle: Duration::ZERO, ..Collect::new(Duration::ZERO) };
    assert!(collect(&client, &how).unwrap().removed > 0);
    client.over_quota.store(false, Ordering::Relaxed);
    disk.flush().unwrap();
    drop(disk);
    open(&store).read(0, &mut bytes).unwrap();
    assert!(bytes[..4096] == [2; 4096] && bytes[4096..] == [3; 4096]);
    // The next collection brings the store back to its order.
    collect(&client, &how).unwrap();
    assert_eq!(store.keys("gc").len(), 1);
}

#[test]
fn collector_that_is_killed_at_any_request_harms_nothing() {
    for left in 1..30 {
        let store = Memory::default();
        create(&store, &make(1 << 20));
        let disk = open(&store);
        let write = |byte| {
            disk.write(0, &[byte; 2 * SMALL as usize]).unwrap();
            disk.flush().unwrap();
        };
        [1, 2, 3].into_iter().for_each(write);
        disk.checkpoint().unwrap();
        let how = Collect {
            settle: Duration::ZERO,
            times: options().times,
            ..Collect::new(Duration::ZERO)
        };
        let _ = collect(&store.cut(left, left % 2 == 0), &how);
        // What was garbage is written again, at once and after the next collection.
        write(1);
        store.change_if("gc", |raw| {
            let text = String::from_utf8(raw.clone()).unwrap();
            let (head, tail) = text.split_once("\"process\":\"").unwrap_or((&text, ""));
            if !tail.is_empty() {
                let (_, tail) = tail.split_once('"').unwrap();
                *raw = format!("{head}\"process\":\"1 1\"{tail}").into_bytes();
            }
        });
        collect(&store.client(), &how).unwrap();
        write(2);
        collect(&store.client(), &how).unwrap();
        drop(disk);
        let mut bytes = [0; 2 * SMALL as usize];
        open(&store).read(0, &mut bytes).unwrap();
        assert_eq!(bytes, [2; 2 * SMALL as usize], "{left}");
    }
}
