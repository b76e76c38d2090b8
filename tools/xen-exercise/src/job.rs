//! fio's job files, as words for the exerciser's command line.

use anyhow::{Result, bail};
use std::collections::BTreeMap;

/// Words that change nothing for a guest that sends requests itself.
const IGNORED: [&str; 9] = [
    "ioengine",
    "direct",
    "group_reporting",
    "time_based",
    "name",
    "verify",
    "do_verify",
    "thread",
    "norandommap",
];

/// Reads a number with a suffix, such as `4k`; fio's are powers of two.
fn bytes(value: &str) -> Option<u64> {
    let value = value.trim().to_lowercase();
    let digits = value.trim_end_matches(|c: char| c.is_alphabetic());
    let shift = match value[digits.len()..].trim_end_matches('b').trim_end_matches('i') {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

fn seconds(value: &str) -> Option<u64> {
    match value.strip_suffix('m') {
        Some(minutes) => minutes.parse::<u64>().ok()?.checked_mul(60),
        None => value.trim_end_matches('s').parse().ok(),
    }
}

/// Converts the job of a file; the error names every word that has no counterpart.
pub fn words(job: &str) -> Result<String> {
    let mut mix: BTreeMap<&str, u64> = BTreeMap::new();
    let (mut disks, mut size, mut refused, mut share, mut pattern) =
        (Vec::new(), None, Vec::new(), 50, "randread".to_string());
    for line in job.lines().map(str::trim) {
        if line.is_empty() || line.starts_with(['#', ';', '[']) {
            continue;
        }
        let (key, value) = line.split_once('=').unwrap_or((line, ""));
        let (key, value) = (key.trim(), value.trim());
        let mut set = |name: &'static str, number: Option<u64>| match number {
            Some(number) => drop(mix.insert(name, number)),
            None => refused.push(line.to_string()),
        };
        match key {
            "rw" | "readwrite" => pattern = value.to_string(),
            "bs" | "blocksize" => {
                set("least", bytes(value));
                set("most", bytes(value));
            }
            "bsrange" | "blocksize_range" => {
                let (least, most) = value.split_once('-').unwrap_or((value, value));
                set("least", bytes(least));
                set("most", bytes(most));
            }
            "iodepth" => set("depth", bytes(value)),
            "runtime" => set("seconds", seconds(value)),
            "rate_iops" => set("iops", value.parse().ok()),
            "rwmixread" => match value.parse::<u64>() {
                Ok(number) if number <= 100 => share = number,
                _ => refused.push(line.to_string()),
            },
            "size" | "filesize" => size = Some(value.to_string()),
            "filename" => disks
                .extend(value.split(':').map(|file| file.trim_start_matches("/dev/").to_string())),
            // One place of ten gets nine of ten requests.
            "random_distribution" if value.starts_with("zoned:90/") => {
                let hot = value["zoned:90/".len()..].split(':').next();
                set("hot", hot.and_then(|hot| hot.parse().ok()));
            }
            _ if IGNORED.contains(&key) => {}
            _ => refused.push(line.to_string()),
        }
    }
    let shares = match &*pattern {
        "randread" => [100, 0, 0],
        "randwrite" => [0, 100, 0],
        "randrw" => [share, 100 - share, 0],
        "randtrim" => [0, 0, 100],
        other => {
            refused.push(format!("rw={other} (there are randread, randwrite, randrw, randtrim)"));
            [0; 3]
        }
    };
    if !refused.is_empty() {
        bail!("the exerciser has nothing for these words of the job: {}", refused.join(", "));
    }
    let mut words = String::from("blk.run=mix");
    if !disks.is_empty() {
        words += &format!(" blk.disk={}", disks.join(","));
    }
    if let Some(size) = size {
        words += &format!(" blk.size={}", bytes(&size).map_or(size, |bytes| bytes.to_string()));
    }
    let [read, write, discard] = shares;
    words += &format!(" blk.mix=read:{read},write:{write},discard:{discard}");
    mix.iter().for_each(|(name, number)| words += &format!(",{name}:{number}"));
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn job_becomes_words() {
        let job = "[global]\nioengine=libaio\ndirect=1\nrw=randrw\nrwmixread=70\nbsrange=4k-64k\n\
                   iodepth=32\n; a comment\n[job]\nfilename=/dev/xvdb\nsize=1g\nruntime=2m\nrate_iops=500\n\
                   random_distribution=zoned:90/10:10/90\n";
        assert_eq!(
            words(job).unwrap(),
            "blk.run=mix blk.disk=xvdb blk.size=1073741824 blk.mix=read:70,write:30,discard:0,\
             depth:32,hot:10,iops:500,least:4096,most:65536,seconds:120"
        );
    }

    #[test]
    fn words_without_counterpart_are_named() {
        let error = words("rw=randread\nnumjobs=4\nbs=many\n").unwrap_err().to_string();
        assert!(error.contains("numjobs=4") && error.contains("bs=many"), "{error}");
        assert!(words("rw=write").unwrap_err().to_string().contains("rw=write"));
    }

    proptest! {
        #[test]
        fn no_job_panics(job in "\\PC{0,200}") {
            let _ = words(&job);
        }
    }
}
