//! Grants and mappings.

use super::{Endpoint, Finding, ensure, expect, hex};
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use xen_platform::{Access, CopySegment, Granted, IndexMemory, PAGE_SIZE, Platform, SharedMem};

type Shared<A, B> = (<A as Platform>::Grant, <B as Platform>::Map);

/// Pages shared by `ours` and mapped writable by `theirs`.
pub(super) fn shared<A: Platform, B: Platform>(
    ours: &Endpoint<A>,
    theirs: &Endpoint<B>,
    pages: usize,
) -> Result<Shared<A, B>, String> {
    let grant = expect("sharing", ours.platform.share(theirs.id, pages))?;
    let map = expect("mapping", theirs.platform.map(ours.id, grant.refs(), Access::ReadWrite))?;
    Ok((grant, map))
}

pub(super) fn fresh<A: Platform, B: Platform>(ours: &Endpoint<A>, theirs: &Endpoint<B>) -> Finding {
    // Twice: the second time, the pages may be those that were dirty before.
    for _ in 0..2 {
        let (grant, map) = shared(ours, theirs, 3)?;
        let mut refs = grant.refs().to_vec();
        refs.sort();
        refs.dedup();
        ensure(refs.len() == 3, || format!("3 pages have the references {:?}", grant.refs()))?;
        ensure(grant.len() == 3 * PAGE_SIZE, || format!("the grant has {} bytes", grant.len()))?;
        ensure(map.len() == 3 * PAGE_SIZE, || format!("the mapping has {} bytes", map.len()))?;
        all_zero(&grant)?;
        all_zero(&map)?;
        grant.write(0, &[0xff; 3 * PAGE_SIZE]);
    }
    Ok(())
}

pub(super) fn bytes<A: Platform, B: Platform>(ours: &Endpoint<A>, theirs: &Endpoint<B>) -> Finding {
    let (grant, map) = shared(ours, theirs, 2)?;
    // Lengths and offsets that leave every remainder, across the page boundary too.
    for (at, len) in
        [(0, 1), (3, 8), (PAGE_SIZE - 5, 10), (PAGE_SIZE - 64, 129), (1, 2 * PAGE_SIZE - 1)]
    {
        let sent: Vec<u8> = (0..len).map(|i| (i * 31 + at + 1) as u8).collect();
        grant.write(at, &sent);
        same(&map, at, &sent)?;
        let reply: Vec<u8> = sent.iter().map(|byte| !byte).collect();
        map.write(at, &reply);
        same(&grant, at, &reply)?;
    }
    Ok(())
}

pub(super) fn fields<A: Platform, B: Platform>(
    ours: &Endpoint<A>,
    theirs: &Endpoint<B>,
) -> Finding {
    let (grant, map) = shared(ours, theirs, 1)?;
    both_see(&grant, &map)?;
    both_see(&map, &grant)
}

/// Changes fields on one side and looks on the other.
fn both_see(one: &impl SharedMem, other: &impl SharedMem) -> Finding {
    one.store(8, 0x0403_0201);
    one.fence();
    ensure(other.load(8) == 0x0403_0201, || format!("the word is {:#x}", other.load(8)))?;
    same(other, 8, &[1, 2, 3, 4])?;
    one.store_u8(9, 0b0101);
    ensure(other.load_u8(9) == 0b0101, || format!("the byte is {:#b}", other.load_u8(9)))?;
    let old = other.fetch_or(9, 0b0010);
    ensure(old == 0b0101 && one.load_u8(9) == 0b0111, || {
        format!("{old:#b} became {:#b}", one.load_u8(9))
    })?;
    let old = other.fetch_and(9, 0b0110);
    ensure(old == 0b0111 && one.load_u8(9) == 0b0110, || {
        format!("{old:#b} became {:#b}", one.load_u8(9))
    })?;
    same(one, 8, &[1, 6, 3, 4])
}

pub(super) fn order<A: Platform, B: Platform>(ours: &Endpoint<A>, theirs: &Endpoint<B>) -> Finding {
    let grant = expect("sharing", ours.platform.share(theirs.id, 3))?;
    for page in 0..3 {
        grant.store(page * PAGE_SIZE, page as u32 + 1);
    }
    let refs: Vec<_> = [2, 0].map(|page| grant.refs()[page]).into();
    let map = expect("mapping", theirs.platform.map(ours.id, &refs, Access::ReadWrite))?;
    let found = [map.load(0), map.load(PAGE_SIZE)];
    ensure(found == [3, 1], || format!("mapping the third and the first page showed {found:?}"))
}

pub(super) fn read_only<A: Platform, B: Platform>(
    ours: &Endpoint<A>,
    theirs: &Endpoint<B>,
) -> Finding {
    let grant = expect("sharing", ours.platform.share(theirs.id, 1))?;
    let map = expect("mapping", theirs.platform.map(ours.id, grant.refs(), Access::ReadOnly))?;
    grant.write(100, b"seen");
    same(&map, 100, b"seen")
}

pub(super) fn shared_read_only<A: Platform, B: Platform>(
    ours: &Endpoint<A>,
    theirs: &Endpoint<B>,
) -> Finding {
    let grant = expect("sharing for reading", ours.platform.share_read_only(theirs.id, 2))?;
    all_zero(&grant)?;
    grant.write(PAGE_SIZE - 2, b"seen");
    let map = expect(
        "mapping for reading",
        theirs.platform.map(ours.id, grant.refs(), Access::ReadOnly),
    )?;
    same(&map, PAGE_SIZE - 2, b"seen")?;
    drop(map);
    let map = theirs.platform.map(ours.id, grant.refs(), Access::ReadWrite);
    ensure(map.is_err(), || format!("grant {} could be mapped for writing", grant.refs()[0]))
}

pub(super) fn copied<A: Platform, B: Platform>(
    ours: &Endpoint<A>,
    theirs: &Endpoint<B>,
) -> Finding {
    let grant = expect("sharing", ours.platform.share(theirs.id, 2))?;
    grant.write(PAGE_SIZE - 3, b"abcdef");
    let (mut one, mut two) = ([0; 3], [0; 3]);
    let whole = [0x5a; PAGE_SIZE];
    let mut pieces = [
        CopySegment::from_peer(grant.refs()[0], PAGE_SIZE - 3, &mut one),
        CopySegment::from_peer(grant.refs()[1], 0, &mut two),
    ];
    expect("copying from the peer", theirs.platform.copy(ours.id, &mut pieces))?;
    let status = pieces.each_ref().map(CopySegment::status);
    ensure(status == [0, 0], || format!("the pieces have the status {status:?}"))?;
    ensure(&one == b"abc" && &two == b"def", || format!("{one:?} and {two:?} were copied"))?;
    let mut pieces = [
        CopySegment::to_peer(grant.refs()[1], 7, b"xyz"),
        CopySegment::to_peer(grant.refs()[0], 0, &whole),
    ];
    expect("copying to the peer", theirs.platform.copy(ours.id, &mut pieces))?;
    ensure(pieces.iter().all(CopySegment::is_copied), || format!("not copied: {pieces:?}"))?;
    same(&grant, 0, &whole)?;
    same(&grant, PAGE_SIZE, b"def\0\0\0\0xyz\0")
}

pub(super) fn copied_apart<A: Platform, B: Platform>(
    ours: &Endpoint<A>,
    theirs: &Endpoint<B>,
) -> Finding {
    let grant = expect("sharing", ours.platform.share(theirs.id, 1))?;
    let read_only = expect("sharing for reading", ours.platform.share_read_only(theirs.id, 1))?;
    let dropped = expect("sharing", ours.platform.share(theirs.id, 1))?;
    let gone = dropped.refs()[0];
    drop(dropped);
    grant.write(0, b"first");
    read_only.write(0, b"kept!");
    let (mut first, mut none, mut kept) = ([0; 5], [0; 5], [0; 5]);
    let mut pieces = [
        CopySegment::from_peer(gone, 0, &mut none),
        CopySegment::from_peer(grant.refs()[0], 0, &mut first),
        CopySegment::to_peer(read_only.refs()[0], 0, b"spoil"),
        CopySegment::from_peer(read_only.refs()[0], 0, &mut kept),
        CopySegment::to_peer(gone, 0, b"spoil"),
    ];
    expect("copying", theirs.platform.copy(ours.id, &mut pieces))?;
    let copied = pieces.each_ref().map(CopySegment::is_copied);
    ensure(copied == [false, true, false, true, false], || {
        format!("the pieces were copied: {copied:?}")
    })?;
    ensure(&first == b"first" && &kept == b"kept!" && none == [0; 5], || {
        format!("{first:?}, {kept:?}, {none:?}")
    })?;
    same(&read_only, 0, b"kept!")
}

pub(super) fn revoked<A: Platform, B: Platform>(
    ours: &Endpoint<A>,
    theirs: &Endpoint<B>,
) -> Finding {
    let grant = expect("sharing", ours.platform.share(theirs.id, 1))?;
    let refs = grant.refs().to_vec();
    drop(grant);
    let map = theirs.platform.map(ours.id, &refs, Access::ReadOnly);
    ensure(map.is_err(), || format!("grant {} could be mapped", refs[0]))
}

pub(super) fn busy<A: Platform, B: Platform>(ours: &Endpoint<A>, theirs: &Endpoint<B>) -> Finding {
    let (grant, map) = shared(ours, theirs, 1)?;
    let busy = grant.refs()[0];
    map.write(0, b"still here");
    drop(grant);
    same(&map, 0, b"still here")?;
    let later = expect("sharing", ours.platform.share(theirs.id, 4))?;
    ensure(!later.refs().contains(&busy), || format!("reference {busy} was given out again"))?;
    map.write(0, &[0xaa; PAGE_SIZE]);
    all_zero(&later)?;
    drop(map);
    // Now that the peer let go, sharing goes on as if nothing had been.
    shared(ours, theirs, 4).map(drop)
}

fn all_zero(memory: &impl SharedMem) -> Finding {
    let mut bytes = vec![0xff; memory.len()];
    memory.read(0, &mut bytes);
    let dirty = bytes.iter().position(|byte| *byte != 0);
    dirty.map_or(Ok(()), |at| Err(format!("the byte at {at} of fresh pages is {:#04x}", bytes[at])))
}

pub(super) fn same(memory: &impl SharedMem, at: usize, wanted: &[u8]) -> Finding {
    let mut found = vec![0; wanted.len()];
    memory.read(at, &mut found);
    let differs = (0..found.len()).find(|i| found[*i] != wanted[*i]);
    differs.map_or(Ok(()), |i| {
        let end = (i + 8).min(found.len());
        Err(format!(
            "at {}, {} was read instead of {}",
            at + i,
            hex(&found[i..end]),
            hex(&wanted[i..end])
        ))
    })
}
