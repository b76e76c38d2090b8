//! The tables of what was measured.

use crate::run::Job;

/// Bytes of a GiB.
pub const GIB: f64 = (1u64 << 30) as f64;

/// Returns the table of a channel, from the seconds of each job.
pub fn channel(
    processors: usize,
    ring: usize,
    jobs: &[Job],
    theirs: &[f64],
    ours: &[f64],
) -> String {
    let place = match processors {
        1 => "both ends on one processor",
        _ => "each end on a processor of its own",
    };
    let mut text = format!(
        "Rings of {}, {place}\n  {:<24} {:>12} {:>12} {:>8}\n",
        named(ring),
        "messages",
        "libxenvchan",
        "ours",
        "ratio"
    );
    for ((job, theirs), ours) in jobs.iter().zip(theirs).zip(ours) {
        let what = if job.is_trip { "there and back, ns" } else { "one way, GiB/s" };
        text += &format!(
            "  {:>6} {what:<18} {:>11} {:>12} {:>8.2}\n",
            named(job.size),
            shown(job, *theirs),
            shown(job, *ours),
            theirs / ours
        );
    }
    text
}

/// Nanoseconds of a round trip, or GiB a second.
fn shown(job: &Job, seconds: f64) -> String {
    match job.is_trip {
        true => format!("{:.0}", seconds / job.count as f64 * 1e9),
        false => format!("{:.3}", job.size as f64 * job.count as f64 / seconds / GIB),
    }
}

/// Returns a size as people write it.
pub fn named(size: usize) -> String {
    match size {
        size if size >= 1 << 20 => format!("{} MiB", size >> 20),
        size if size >= 1 << 10 && size.is_power_of_two() => format!("{} KiB", size >> 10),
        size => format!("{size} B"),
    }
}
