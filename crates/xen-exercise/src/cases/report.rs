//! The capability report: every key of the backend, and what is made of them.

use super::{Context, Outcome, limits, units};
use crate::environment::Error;
use crate::log::Json;
use crate::raw::Rings;
use crate::stamp::SECTOR;
use alloc::format;
use alloc::string::{String, ToString};
use core::fmt::Write;
use xen_blk::front::Info;
use xen_blk::protocol::Units;

/// Shows everything, once for people and once as a JSON line, and checks that what the backend says
/// makes sense.
pub async fn report(cx: &mut Context<'_>) -> Outcome {
    let disk = cx.device().await?;
    let depth = limits::depth(&*disk).await;
    let info = disk.info();
    let keys = cx.env.keys(cx.vdev).await?;
    let mut json = format!(
        "{{\"report\":{},\"backend_path\":{},\"keys\":{{",
        Json(cx.name),
        Json(&info.backend_path)
    );
    // Writing to a string cannot fail.
    for (number, (key, value)) in keys.iter().enumerate() {
        cx.note(format_args!("{key} = {}", Json(value)));
        let comma = if number == 0 { "" } else { "," };
        let _ = write!(json, "{comma}{}:{}", Json(key), Json(value));
    }
    let numbers = info.numbers();
    json.push_str("},\"in_use\":{");
    for (number, (key, value)) in numbers.iter().enumerate() {
        let comma = if number == 0 { "" } else { "," };
        let _ = write!(json, "{comma}\"{key}\":{value}");
    }
    let (abi, units) = (info.abi.name(), info.units.name().unwrap_or("mixed"));
    let (inferred, limits) = tried(cx, &info, &keys).await?;
    let limits = format!("{{\"depth\":{depth}{limits}}}");
    cx.note(format_args!("found by trying: {limits}"));
    cx.env.publish(&format!("{}/limits", cx.name), &limits).await;
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
    cx.env.print(format_args!("# {json}\n"));
    sane(cx, &info);
    said(cx, &info, &keys);
    Ok(info.to_string())
}

/// Finds by single requests the name of the units in which the backend counts, and its limits.
async fn tried(
    cx: &mut Context<'_>,
    info: &Info,
    keys: &[(String, String)],
) -> Result<(&'static str, String), Error> {
    let number = |name: &str| {
        keys.iter().find(|(key, _)| key == name).and_then(|(_, value)| value.parse().ok())
    };
    cx.close().await?;
    let per_sector = u64::from(info.sector_size) / SECTOR as u64;
    let Ok(mut raw) = cx.env.raw(cx.vdev, Rings::ONE, &[]).await else {
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
        cx.note(format_args!(
            "sectors of {} bytes are counted in the units of: {name}",
            info.sector_size
        ));
    }
    let offered = number("feature-max-indirect-segments").unwrap_or(0);
    let limits = limits::find(cx, &mut *raw, info, units.unwrap_or(Units::HEADER), offered).await;
    raw.close().await?;
    Ok((name, limits))
}

/// Checks that keys which say the same thing agree.
fn said(cx: &Context<'_>, info: &Info, keys: &[(String, String)]) {
    let key = |name: &str| keys.iter().find(|(key, _)| key == name).map(|(_, value)| &**value);
    let number = |name: &str| key(name).and_then(|value| value.parse::<u32>().ok());
    // VDISK_READONLY.
    if let (Some(mode), Some(flags)) = (key("mode"), number("info")) {
        cx.check(
            (flags & 4 != 0) == (mode == "r"),
            format_args!("mode is {mode}, and info is {flags}"),
        );
    }
    // The driver makes do without these two.
    if let Some(physical) = number("physical-sector-size") {
        cx.check(
            physical.is_power_of_two() && physical >= info.sector_size,
            format_args!(
                "physical sectors of {physical} bytes, and sectors of {}",
                info.sector_size
            ),
        );
    }
    if let (Some(order), Some(pages)) = (number("max-ring-page-order"), number("max-ring-pages")) {
        cx.check(
            1u32.checked_shl(order) == Some(pages),
            format_args!("max-ring-page-order is {order}, and max-ring-pages is {pages}"),
        );
    }
    if let Some(discard) = info.discard {
        let whole = discard.granularity.is_multiple_of(SECTOR as u32)
            && discard.alignment.is_multiple_of(SECTOR as u32);
        cx.check(whole, format_args!("discards are not in whole sectors"));
    }
}

/// Checks the properties that every backend must have.
fn sane(cx: &Context<'_>, info: &Info) {
    let size = info.sector_size;
    cx.check(info.sectors > 0, format_args!("the disk has no sectors"));
    cx.check(size.is_power_of_two() && size >= 512, format_args!("sectors of {size} bytes"));
    let whole = info.sectors.is_multiple_of(u64::from(size) / 512);
    cx.check(
        whole,
        format_args!("{} sectors of 512 bytes are not whole sectors of {size}", info.sectors),
    );
    cx.check(
        info.max_transfer >= size as usize,
        format_args!("a request holds less than a sector"),
    );
}
