//! What a container may use: memory, CPUs, processes, block devices and rlimits.

use super::device::{DeviceMapping, DeviceRule, ThrottleDevice, WeightDevice};
use super::{InvalidOption, invalid};
use serde::{Deserialize, Serialize};

/// Docker's `Resources`. 0 and None are "no limit of its own".
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// `--memory`, bytes.
    pub memory: i64,
    /// `--memory-swap`, bytes of memory and swap together; -1 is without end.
    pub memory_swap: i64,
    /// `--memory-reservation`, bytes.
    pub memory_reservation: i64,
    /// `--memory-swappiness`, 0 to 100.
    pub memory_swappiness: Option<i64>,
    /// `--cpus`, in billionths of a CPU.
    pub nano_cpus: i64,
    /// `--cpu-shares`.
    pub cpu_shares: i64,
    /// `--cpu-period`, microseconds.
    pub cpu_period: i64,
    /// `--cpu-quota`, microseconds.
    pub cpu_quota: i64,
    /// `--cpu-rt-period`, microseconds.
    pub cpu_realtime_period: i64,
    /// `--cpu-rt-runtime`, microseconds.
    pub cpu_realtime_runtime: i64,
    /// `--cpuset-cpus`: `0-2,4`.
    pub cpuset_cpus: String,
    /// `--cpuset-mems`.
    pub cpuset_mems: String,
    /// `--pids-limit`; 0 and -1 are without end.
    pub pids_limit: Option<i64>,
    /// `--oom-kill-disable`.
    pub oom_kill_disable: bool,
    /// `--blkio-weight`, 10 to 1000.
    pub blkio_weight: u16,
    /// `--blkio-weight-device`.
    pub blkio_weight_devices: Vec<WeightDevice>,
    /// `--device-read-bps`.
    pub device_read_bps: Vec<ThrottleDevice>,
    /// `--device-write-bps`.
    pub device_write_bps: Vec<ThrottleDevice>,
    /// `--device-read-iops`.
    pub device_read_iops: Vec<ThrottleDevice>,
    /// `--device-write-iops`.
    pub device_write_iops: Vec<ThrottleDevice>,
    /// `--device`.
    pub devices: Vec<DeviceMapping>,
    /// `--device-cgroup-rule`.
    pub device_rules: Vec<DeviceRule>,
    /// `--ulimit`.
    pub ulimits: Vec<Ulimit>,
}

/// Docker takes no memory limit below this, in bytes: nothing would start.
const MINIMUM_MEMORY: i64 = 6 << 20;

impl Resources {
    /// Refuses what contradicts itself, whatever the machine; in Docker's words.
    pub fn check(&self) -> Result<(), InvalidOption> {
        self.check_memory()?;
        self.check_cpus()?;
        if self.pids_limit.is_some_and(|limit| limit < -1) {
            return invalid("Invalid value: pids-limit must be -1, 0 or positive");
        }
        if self.blkio_weight > 0 && !(10..=1000).contains(&self.blkio_weight) {
            return invalid("Range of blkio weight is from 10 to 1000");
        }
        for (text, what) in [(&self.cpuset_cpus, "cpus"), (&self.cpuset_mems, "mems")] {
            if parse_list(text).is_none() {
                return invalid(format!("Invalid value {text} for cpuset {what}"));
            }
        }
        Ok(())
    }

    /// [`Self::check`] of an update, where the memory may stand in the container already.
    fn check_memory(&self) -> Result<(), InvalidOption> {
        let Self { memory, memory_swap: swap, memory_reservation: reservation, .. } = *self;
        if memory != 0 && memory < MINIMUM_MEMORY {
            return invalid("Minimum memory limit allowed is 6MB");
        }
        if memory > 0 && swap > 0 && swap < memory {
            return invalid("Minimum memoryswap limit should be larger than memory limit, see usage");
        }
        if memory == 0 && swap > 0 {
            return invalid("You should always set the Memory limit when using Memoryswap limit, see usage");
        }
        if swap < -1 {
            return invalid(format!("invalid memory-swap limit: {swap}"));
        }
        if self.memory_swappiness.is_some_and(|value| !(0..=100).contains(&value)) {
            let value = self.memory_swappiness.unwrap_or_default();
            return invalid(format!("Invalid value: {value}, valid memory swappiness range is 0-100"));
        }
        if reservation != 0 && reservation < MINIMUM_MEMORY {
            return invalid("Minimum memory reservation allowed is 6MB");
        }
        if memory > 0 && reservation > 0 && memory < reservation {
            return invalid("Minimum memory limit can not be less than memory reservation limit, see usage");
        }
        Ok(())
    }

    fn check_cpus(&self) -> Result<(), InvalidOption> {
        if self.nano_cpus > 0 && self.cpu_period > 0 {
            return invalid("Conflicting options: Nano CPUs and CPU Period cannot both be set");
        }
        if self.nano_cpus > 0 && self.cpu_quota > 0 {
            return invalid("Conflicting options: Nano CPUs and CPU Quota cannot both be set");
        }
        if self.cpu_shares < 0 {
            return invalid(format!("invalid CPU shares ({}): value must be a positive integer", self.cpu_shares));
        }
        if self.cpu_period != 0 && !(1000..=1_000_000).contains(&self.cpu_period) {
            return invalid("CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)");
        }
        if self.cpu_quota > 0 && self.cpu_quota < 1000 {
            return invalid("CPU cfs quota can not be less than 1ms (i.e. 1000)");
        }
        if self.cpu_realtime_runtime != 0 && self.cpu_realtime_runtime > self.cpu_realtime_period {
            return invalid("cpu real-time runtime cannot be higher than cpu real-time period");
        }
        Ok(())
    }

    /// Refuses more CPUs than there are.
    pub fn check_cpu_count(&self, available: usize) -> Result<(), InvalidOption> {
        let most = i64::try_from(available).unwrap_or(i64::MAX).saturating_mul(1_000_000_000);
        if self.nano_cpus < 0 || self.nano_cpus > most {
            return invalid(format!(
                "range of CPUs is from 0.01 to {available}.00, as there are only {available} CPUs available"
            ));
        }
        Ok(())
    }

    /// Quota and period in microseconds as the kernel takes them; `--cpus` is a share of 100 ms.
    pub fn cpu_bandwidth(&self) -> (i64, i64) {
        const PERIOD: i64 = 100_000;
        match self.nano_cpus {
            0 => (self.cpu_quota, self.cpu_period),
            nano => (nano / (1_000_000_000 / PERIOD), PERIOD),
        }
    }

    /// Memory and swap together, in bytes: twice the memory when only that was given, as in Docker.
    pub fn effective_swap(&self) -> i64 {
        if self.memory > 0 && self.memory_swap == 0 { self.memory.saturating_mul(2) } else { self.memory_swap }
    }
}

/// The numbers of `0-2,4`; None when it isn't such a list.
pub fn parse_list(text: &str) -> Option<Vec<u32>> {
    const MOST: u32 = 8192;
    let mut numbers = Vec::new();
    for part in text.split(',').filter(|_| !text.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        if first > last || last > MOST {
            return None;
        }
        numbers.extend(first..=last);
    }
    Some(numbers)
}

/// `--cpus`: billionths of a CPU in a decimal number.
pub fn parse_cpus(text: &str) -> Result<i64, InvalidOption> {
    let bad = || InvalidOption(format!("failed to parse {text} as a rational number"));
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || (whole.is_empty() && fraction.is_empty()) {
        return Err(bad());
    }
    if fraction.trim_end_matches('0').len() > 9 {
        return invalid("value is too precise");
    }
    let whole: i64 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| bad())? };
    let nanos: i64 = format!("{:0<9}", &fraction[..fraction.len().min(9)]).parse().map_err(|_| bad())?;
    whole.checked_mul(1_000_000_000).and_then(|whole| whole.checked_add(nanos)).ok_or_else(bad)
}

/// `--ulimit NAME=SOFT[:HARD]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ulimit {
    /// `nofile`, `nproc` …
    pub name: String,
    /// -1 is without end.
    pub soft: i64,
    /// -1 is without end.
    pub hard: i64,
}

impl Ulimit {
    /// The names that there are (setrlimit(2) without `RLIMIT_`).
    pub const NAMES: [&str; 15] = [
        "core",
        "cpu",
        "data",
        "fsize",
        "locks",
        "memlock",
        "msgqueue",
        "nice",
        "nofile",
        "nproc",
        "rss",
        "rtprio",
        "rttime",
        "sigpending",
        "stack",
    ];

    /// Reads `nofile=1024:4096`, `nofile=1024` or `core=-1`.
    pub fn parse(text: &str) -> Result<Self, InvalidOption> {
        let Some((name, values)) = text.split_once('=') else {
            return invalid(format!("invalid ulimit argument: {text}"));
        };
        if !Self::NAMES.contains(&name) {
            return invalid(format!("invalid ulimit type: {name}"));
        }
        let number = |value: &str| -> Result<i64, InvalidOption> {
            match value.parse::<i64>() {
                Ok(number) if number >= -1 => Ok(number),
                _ => invalid(format!("invalid ulimit argument: {text}: {value:?} is not a number")),
            }
        };
        let (soft, hard) = match values.split_once(':') {
            Some((_, hard)) if hard.contains(':') => {
                return invalid(format!(
                    "too many limit value arguments - {values}, can only have up to two, `soft[:hard]`"
                ));
            }
            Some((soft, hard)) => (number(soft)?, number(hard)?),
            None => (number(values)?, number(values)?),
        };
        if hard != -1 && (soft == -1 || soft > hard) {
            return invalid(format!("ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}"));
        }
        Ok(Self { name: name.to_owned(), soft, hard })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: i64 = 1 << 20;

    #[test]
    fn contradictions_have_dockers_words() {
        let none = Resources::default;
        for (resources, expected) in [
            (none(), ""),
            (Resources { memory: 8 * MB, memory_swap: -1, ..none() }, ""),
            (Resources { memory: 5 * MB, ..none() }, "Minimum memory limit allowed is 6MB"),
            (Resources { memory: 8 * MB, memory_swap: 7 * MB, ..none() }, "Minimum memoryswap limit should be larger"),
            (Resources { memory_swap: 7 * MB, ..none() }, "You should always set the Memory limit"),
            (Resources { memory: 8 * MB, memory_reservation: 9 * MB, ..none() }, "can not be less than memory reserv"),
            (Resources { memory_swappiness: Some(101), ..none() }, "valid memory swappiness range is 0-100"),
            (Resources { nano_cpus: 1, cpu_quota: 5000, ..none() }, "Nano CPUs and CPU Quota cannot both be set"),
            (Resources { nano_cpus: 1, cpu_period: 5000, ..none() }, "Nano CPUs and CPU Period cannot both be set"),
            (Resources { cpu_period: 999, ..none() }, "CPU cfs period can not be less than 1ms"),
            (Resources { cpu_quota: 999, ..none() }, "CPU cfs quota can not be less than 1ms"),
            (Resources { cpu_realtime_runtime: 2, ..none() }, "cannot be higher than cpu real-time period"),
            (Resources { blkio_weight: 5, ..none() }, "Range of blkio weight is from 10 to 1000"),
            (Resources { cpuset_cpus: "0-x".into(), ..none() }, "Invalid value 0-x for cpuset cpus"),
        ] {
            let found = resources.check().err().map(|error| error.to_string()).unwrap_or_default();
            assert!(found.contains(expected) && found.is_empty() == expected.is_empty(), "{found}");
        }
        assert!(Resources { nano_cpus: 3_000_000_000, ..none() }.check_cpu_count(2).is_err());
        assert_eq!(Resources { nano_cpus: 1_500_000_000, ..none() }.cpu_bandwidth(), (150_000, 100_000));
        assert_eq!(Resources { memory: 8 * MB, ..none() }.effective_swap(), 16 * MB);
    }

    #[test]
    fn numbers() {
        for (text, expected) in [
            ("1", Some(1_000_000_000)),
            ("0.5", Some(500_000_000)),
            (".25", Some(250_000_000)),
            ("1.000000001", Some(1_000_000_001)),
            ("", None),
            ("x", None),
            ("-1", None),
            ("1.0000000001", None),
        ] {
            assert_eq!(parse_cpus(text).ok(), expected, "{text}");
        }
        assert_eq!(parse_list("0-2,4"), Some(vec![0, 1, 2, 4]));
        assert_eq!((parse_list(""), parse_list("2-1"), parse_list("1,")), (Some(vec![]), None, None));
    }

    #[test]
    fn ulimits() {
        for (text, soft, hard) in
            [("nofile=10", 10, 10), ("nofile=10:20", 10, 20), ("core=-1", -1, -1), ("core=5:-1", 5, -1)]
        {
            let found = Ulimit::parse(text).unwrap();
            assert_eq!((found.soft, found.hard), (soft, hard), "{text}");
        }
        for text in ["nofile", "no=1", "nofile=x", "nofile=2:1", "nofile=-1:5", "nofile=1:2:3", "nofile=-2"] {
            assert!(Ulimit::parse(text).is_err(), "{text}");
        }
    }
}
