//! Time namespaces: how far a producer's clocks are ahead of those of this process.

use std::path::PathBuf;

use domstat_layout::{Clock, Ns};
use rustix::process::Pid;

/// Clocks of a producer, as seen from this process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum ProducerClocks {
    /// Those of this process; also where nothing is known of the producer.
    #[default]
    Own,
    /// Those of another time namespace, ahead by so many nanoseconds.
    Ahead { monotonic: i128, boottime: i128 },
    /// Those of another time namespace, whose offsets cannot be read.
    Unreadable,
}

impl ProducerClocks {
    /// The clocks of the process that `/proc` knows by this number.
    pub(crate) fn of(pid: Pid) -> Self {
        let pid = pid.as_raw_nonzero().to_string();
        let link = |process: &str, which| std::fs::read_link(ns(process, which)).ok();
        let (own, theirs) = (link("self", "time"), link(&pid, "time"));
        let differ = own.is_some() && theirs.is_some();
        if differ && own == theirs {
            return Self::Own;
        }
        // The offsets are those of the namespace of a process's children, which is its own unless it
        // made one for them.
        let of_children = |process, own: &Option<PathBuf>| {
            own.is_some() && link(process, "time_for_children") != *own
        };
        let known = !of_children("self", &own) && !of_children(&pid, &theirs);
        match (offsets("self"), offsets(&pid)) {
            (Some(own), Some(theirs)) if known => {
                let monotonic = theirs.0 - own.0;
                let boottime = theirs.1 - own.1;
                if (monotonic, boottime) == (0, 0) {
                    Self::Own
                } else {
                    Self::Ahead { monotonic, boottime }
                }
            }
            _ if differ => Self::Unreadable,
            // A kernel without time namespaces.
            _ => Self::Own,
        }
    }

    /// The producer's time on `clock` when it is `now` for this process.
    pub(crate) fn at(self, clock: Clock, now: Ns) -> Option<Ns> {
        let ahead = match (self, clock) {
            (Self::Own, _) => return Some(now),
            (Self::Ahead { monotonic, .. }, Clock::Monotonic) => monotonic,
            (Self::Ahead { boottime, .. }, Clock::Boottime) => boottime,
            (Self::Ahead { .. } | Self::Unreadable, _) => return None,
        };
        u64::try_from(i128::from(now.0) + ahead).ok().map(Ns)
    }
}

fn ns(process: &str, which: &str) -> String {
    format!("/proc/{process}/ns/{which}")
}

/// Offsets of the monotonic clock and of the boot time, in nanoseconds.
fn offsets(process: &str) -> Option<(i128, i128)> {
    parse(&std::fs::read_to_string(format!("/proc/{process}/timens_offsets")).ok()?)
}

fn parse(text: &str) -> Option<(i128, i128)> {
    let of = |clock| {
        let mut words = text.lines().find_map(|line| line.strip_prefix(clock))?.split_whitespace();
        let seconds: i64 = words.next()?.parse().ok()?;
        let nanos: i64 = words.next()?.parse().ok()?;
        Some(i128::from(seconds) * 1_000_000_000 + i128::from(nanos))
    };
    Some((of("monotonic")?, of("boottime")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_read_as_the_kernel_writes_them() {
        let text = "monotonic     1000000         5\nboottime           -2 500000000\n";
        assert_eq!(parse(text), Some((1_000_000_000_000_005, -1_500_000_000)));
        assert_eq!(parse("monotonic 1 0\n"), None);
        assert_eq!(parse("monotonic x 0\nboottime 0 0\n"), None);
    }

    #[test]
    fn a_time_that_is_not_known_is_absent() {
        let clocks = ProducerClocks::Ahead { monotonic: 5, boottime: -7 };
        assert_eq!(clocks.at(Clock::Monotonic, Ns(10)), Some(Ns(15)));
        assert_eq!(clocks.at(Clock::Boottime, Ns(10)), Some(Ns(3)));
        assert_eq!(clocks.at(Clock::Boottime, Ns(6)), None);
        assert_eq!(ProducerClocks::Unreadable.at(Clock::Monotonic, Ns(10)), None);
        assert_eq!(ProducerClocks::Own.at(Clock::Monotonic, Ns(10)), Some(Ns(10)));
        let own = Pid::from_raw(std::process::id().try_into().unwrap()).unwrap();
        assert_eq!(ProducerClocks::of(own), ProducerClocks::Own);
    }
}
