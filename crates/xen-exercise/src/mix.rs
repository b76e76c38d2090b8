//! The workload of `mix`, from the option `blk.mix=`.

use alloc::format;
use alloc::string::String;
use core::fmt;

/// Parameters of a workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mix {
    /// Shares of reads, writes, discards and flushes among the requests.
    pub shares: [u64; 4],
    /// Bytes of the smallest request.
    pub least: u64,
    /// Bytes of the largest request.
    pub most: u64,
    /// Requests in flight on each disk.
    pub depth: u64,
    /// Seconds that it runs.
    pub seconds: u64,
    /// Requests a second on each disk; 0 for as many as there can be.
    pub iops: u64,
    /// Percent of the disk that 9 of 10 requests go to.
    pub hot: u64,
}

impl Default for Mix {
    fn default() -> Self {
        let (least, most) = (4096, 64 << 10);
        Mix { shares: [50, 50, 0, 0], least, most, depth: 16, seconds: 10, iops: 0, hot: 100 }
    }
}

/// The words of the option.
pub const WORDS: &str =
    "read, write, discard, flush, least, most, depth, seconds, iops, hot, each with a number";

impl Mix {
    /// Reads words such as `read:70,write:30,most:1M`; `number` reads their numbers.
    pub fn parse(value: &str, number: fn(&str) -> Option<u64>) -> Result<Mix, String> {
        let mut mix = Mix::default();
        if value.contains("read:") || value.contains("write:") {
            mix.shares = [0; 4];
        }
        for word in value.split(',') {
            let (name, amount) = word.split_once(':').unwrap_or((word, ""));
            let Some(amount) = number(amount) else { return Err(format!("'{word}'")) };
            *match name {
                "read" => &mut mix.shares[0],
                "write" => &mut mix.shares[1],
                "discard" => &mut mix.shares[2],
                "flush" => &mut mix.shares[3],
                "least" => &mut mix.least,
                "most" => &mut mix.most,
                "depth" => &mut mix.depth,
                "seconds" => &mut mix.seconds,
                "iops" => &mut mix.iops,
                "hot" => &mut mix.hot,
                _ => return Err(format!("'{name}'")),
            } = amount;
        }
        mix.most = mix.most.clamp(512, 1 << 20);
        mix.least = mix.least.clamp(512, mix.most);
        mix.depth = mix.depth.clamp(1, 64);
        mix.hot = mix.hot.clamp(1, 100);
        mix.shares = mix.shares.map(|share| share.min(1 << 20));
        match mix.shares.iter().sum() {
            0u64 => Err("no share of requests".into()),
            _ => Ok(mix),
        }
    }
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [read, write, discard, flush] = self.shares;
        write!(
            f,
            "read:{read},write:{write},discard:{discard},flush:{flush},least:{},most:{},depth:{},\
             seconds:{},iops:{},hot:{}",
            self.least, self.most, self.depth, self.seconds, self.iops, self.hot
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_and_bad_ones_named() {
        let parse = |value| Mix::parse(value, |number| number.parse().ok());
        let mix = parse("read:7,write:2,flush:1,least:512,most:9000,depth:4,hot:20").unwrap();
        assert_eq!((mix.shares, mix.least, mix.most), ([7, 2, 0, 1], 512, 9000));
        assert_eq!((mix.depth, mix.hot, mix.seconds), (4, 20, 10));
        let shown = format!("{mix}");
        assert_eq!(Mix::parse(&shown, |number| number.parse().ok()), Ok(mix));
        assert_eq!(parse("discard:5").unwrap().shares, [50, 50, 5, 0]);
        assert_eq!(parse("numjobs:4"), Err("'numjobs'".into()));
        assert_eq!(parse("depth:many"), Err("'depth:many'".into()));
        assert!(parse("read:0").is_err());
    }
}
