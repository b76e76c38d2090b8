//! The capability report: every key of the backend, and what is made of them.

use super::{Cx, Outcome, limits, units};
use crate::log::Json;
use crate::site::Failure;
use crate::stamp::SECTOR;
use alloc::format;
use alloc::string::String;
use core::fmt::Write;
use xen_blk::front::{Info, Units};

/// Shows everything, once for people and once as a JSON line, and checks that what the backend says makes sense.
pub async fn report(cx: &mut Cx<'_>) -> Outcome {
    let disk = cx.device().await?;
    let depth = limits::depth(&*disk).await;
    let info = disk.info();
    let keys = cx.site.keys(cx.vdev).await?;
    let mut json = format!("{{\"report\":{},\"backend_path\":{},\"keys\":{{", Json(cx.name), Json(&info.backend_path));
    // Writing to a string cannot fail.
    for (number, (key, value)) in keys.iter().enumerate() {
        cx.note(format_args!("{key} = {}", Json(value)));
        let comma = if number == 0 { "" } else { "," };
        let _ = write!(json, "{comma}{}:{}", Json(key), Json(value));
    }
    let numbers = numbers(&info);
    json.push_str("},\"in_use\":{");
    for (number, (key, value)) in numbers.iter().enumerate() {
        let comma = if number == 0 { "" } else { "," };
        let _ = write!(json, "{comma}\"{key}\":{value}");
    }
    let (abi, units) = (info.abi.name(), info.units.name().unwrap_or("mixed"));
    let (inferred, limits) = tried(cx, &info, &keys).await?;
    let limits = format!("{{\"depth\":{depth}{limits}}}");
    cx.note(format_args!("found by trying: {limits}"));
    cx.site.publish(&format!("{}/limits", cx.name), &limits).await;
    let _ = write!(
        json,
        ",\"abi\":\"{abi}\",\"units\":\"{units}\"}},\"units_inferred\":\"{inferred}\",\"limits\":{limits}"
    );
    json.push_str(",\"notes\":[");
    for (number, note) in info.notes.iter().enumerate() {
        let comma = if number == 0 { "" } else { "," };
        let _ = write!(json, "{comma}{}", Json(&format!("{note}")));
    }
    json.push_str("]}");
    cx.site.print(format_args!("{json}\n"));
    sane(cx, &info);
    Ok(describe(&info))
}

/// What only single requests tell: the name of the units in which the backend counts, and its limits.
async fn tried(cx: &mut Cx<'_>, info: &Info, keys: &[(String, String)]) -> Result<(&'static str, String), Failure> {
    let number = |name: &str| keys.iter().find(|(key, _)| key == name).and_then(|(_, value)| value.parse().ok());
    cx.close().await?;
    let per_sector = u64::from(info.sector_size) / SECTOR as u64;
    let Ok(mut raw) = cx.site.raw(cx.vdev, &[]).await else {
        // Other tests tell what is wrong with a backend that cannot be connected to by hand.
        return Ok((if per_sector == 1 { "any" } else { "unknown" }, String::new()));
    };
    let units = match number("sectors") {
        Some(sectors) if per_sector > 1 => units::infer(&mut *raw, sectors, per_sector).await,
        _ => None,
    };
    let name = match units {
        _ if per_sector == 1 => "any",
        Some(units) => units.name().unwrap_or("mixed"),
        None => "unknown",
    };
    if per_sector > 1 {
        cx.note(format_args!("sectors of {} bytes are counted in the units of: {name}", info.sector_size));
    }
    let offered = number("feature-max-indirect-segments").unwrap_or(0);
    let limits = limits::find(cx, &mut *raw, info, units.unwrap_or(Units::HEADER), offered).await;
    raw.close().await?;
    Ok((name, limits))
}

/// What any backend must say.
fn sane(cx: &Cx<'_>, info: &Info) {
    let size = info.sector_size;
    cx.check(info.sectors > 0, format_args!("the disk has no sectors"));
    cx.check(size.is_power_of_two() && size >= 512, format_args!("sectors of {size} bytes"));
    let whole = info.sectors.is_multiple_of(u64::from(size) / 512);
    cx.check(whole, format_args!("{} sectors of 512 bytes are not whole sectors of {size}", info.sectors));
    cx.check(info.physical_sector_size >= size, format_args!("physical sectors smaller than {size} bytes"));
    cx.check(info.max_transfer >= size as usize, format_args!("a request holds less than a sector"));
}

/// The numbers of `info`, with the names they have in the JSON line; what is true or false is 1 or 0.
pub fn numbers(info: &Info) -> [(&'static str, u64); 17] {
    let discard = info.discard;
    [
        ("sectors", info.sectors),
        ("sector_size", info.sector_size.into()),
        ("physical_sector_size", info.physical_sector_size.into()),
        ("read_only", info.read_only.into()),
        ("removable", info.removable.into()),
        ("cdrom", info.cdrom.into()),
        ("flush", info.flush.into()),
        ("barrier", info.barrier.into()),
        ("discard", discard.is_some().into()),
        ("discard_granularity", discard.map_or(0, |discard| discard.granularity.into())),
        ("discard_alignment", discard.map_or(0, |discard| discard.alignment.into())),
        ("discard_secure", discard.is_some_and(|discard| discard.secure).into()),
        ("indirect_segments", info.indirect_segments.into()),
        ("ring_pages", info.ring_pages.into()),
        ("queues", info.queues.into()),
        ("persistent", info.persistent.into()),
        ("max_transfer", info.max_transfer as u64),
    ]
}

/// A disk in a line.
pub fn describe(info: &Info) -> String {
    let mib = info.sectors / 2048;
    let mut text = format!("{mib} MiB, sectors of {} bytes", info.sector_size);
    for (has, word) in [
        (info.read_only, "read-only"),
        (info.removable, "removable"),
        (info.cdrom, "CD-ROM"),
        (info.flush, "flush"),
        (info.barrier, "barrier"),
        (info.discard.is_some(), "discard"),
        (info.persistent, "persistent"),
    ] {
        if has {
            text.push_str(", ");
            text.push_str(word);
        }
    }
    let (pages, queues, kib) = (info.ring_pages, info.queues, info.max_transfer / 1024);
    // Writing to a string cannot fail.
    let _ = write!(text, "; {queues} rings of {pages} pages, {kib} KiB a request");
    text
}
