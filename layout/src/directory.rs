//! Names of regions and sockets in the directory where consumers look for them.
//!
//! | entry | meaning |
//! |---|---|
//! | `NAME.domstat` | the region of the domain `NAME`: a link to its producer's descriptor ([`RegionLink`]), or a plain file |
//! | `NAME.sock` | a daemon that hands over regions ([`crate::handover`]) |
//! | `control.sock` | the daemon that takes commands; it hands over nothing |
//!
//! Entries whose names begin with a dot are temporary. Other entries are ignored.

use core::fmt;

use crate::value::Name;

/// The end of the name of a region's entry, after the domain's name.
pub const REGION_SUFFIX: &str = ".domstat";
/// The end of the name of a daemon's socket.
pub const SOCKET_SUFFIX: &str = ".sock";
/// The name of the control socket.
pub const CONTROL_SOCKET: &str = "control.sock";

/// The start of the name of a memfd that holds a region; the domain's name follows. It is for those who look for
/// regions in `/proc`: who may make a memfd may give it any name.
pub const MEMFD_PREFIX: &str = "domstat:";
/// The start of the name of a memfd that holds a part of a region.
pub const FRAME_PREFIX: &str = "domstat-frame:";
/// The start of the names that memfds of regions had in builds before revision 5.
const OLD_MEMFD_PREFIX: &str = "domstat-";

/// Whether the target of a descriptor's link (`/proc/PID/fd/N`) is the name of a memfd that may hold a
/// region.
#[must_use]
pub fn is_region_memfd(target: &[u8]) -> bool {
    let Some(name) = target.strip_prefix(b"/memfd:") else { return false };
    let starts = |prefix: &str| name.starts_with(prefix.as_bytes());
    starts(MEMFD_PREFIX) || (starts(OLD_MEMFD_PREFIX) && !starts(FRAME_PREFIX))
}

/// Longest name of a domain in bytes: as many as the group `identity` holds.
pub const MAX_NAME_LEN: usize = Name::MAX_LEN;

/// The rule of [`is_name`], for error texts.
pub const NAME_RULE: &str =
    "1 to 127 bytes without '/' and control characters, not starting with '.'";

/// Whether a domain may be published under this name.
///
/// This is the only rule for names: sources, entries and daemons all follow it. Names that
/// consumers read come from other processes and need not follow it.
#[must_use]
pub fn is_name(name: &str) -> bool {
    (1..=MAX_NAME_LEN).contains(&name.len())
        && !name.starts_with('.')
        && !name.chars().any(|c| c == '/' || c.is_control())
}

/// An entry that consumers look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry<'a> {
    /// The region of the domain of this name.
    Region(&'a str),
    /// The socket of a daemon, with its name less the suffix.
    Socket(&'a str),
}

impl<'a> Entry<'a> {
    /// What an entry of this file name is; `None` for one that consumers ignore.
    #[must_use]
    pub fn of(file_name: &'a str) -> Option<Self> {
        let (kind, name) = match file_name.strip_suffix(REGION_SUFFIX) {
            Some(name) => (Self::Region as fn(&'a str) -> Self, name),
            None => (Self::Socket as fn(&'a str) -> Self, file_name.strip_suffix(SOCKET_SUFFIX)?),
        };
        (!name.is_empty() && !name.starts_with('.')).then(|| kind(name))
    }
}

/// The target of a region's entry: a descriptor of the process that writes the region, so that the
/// entry dangles as soon as that process has exited.
///
/// Displays as `/proc/PID/fd/N`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegionLink {
    /// The process.
    pub pid: u32,
    /// Its descriptor.
    pub fd: u32,
}

impl RegionLink {
    /// Reads the target of an entry; `None` if it has another form.
    #[must_use]
    pub fn parse(target: &str) -> Option<Self> {
        let (pid, fd) = target.strip_prefix("/proc/")?.split_once("/fd/")?;
        let number = |text: &str| {
            let plain = !text.starts_with('+');
            text.parse().ok().filter(|n: &u32| plain && i32::try_from(*n).is_ok())
        };
        Some(Self { pid: number(pid).filter(|pid| *pid > 0)?, fd: number(fd)? })
    }
}

impl fmt::Display for RegionLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/proc/{}/fd/{}", self.pid, self.fd)
    }
}

#[cfg(test)]
mod tests {
    use std::format;
    use std::string::ToString;

    use super::*;

    #[test]
    fn names_follow_one_rule() {
        assert!(is_name("web1") && is_name("a.b") && is_name("ü") && is_name(&"n".repeat(127)));
        for wrong in ["", ".x", "..", "a/b", "a\nb", "a\0b", &"n".repeat(128)] {
            assert!(!is_name(wrong), "{wrong:?}");
        }
        assert!(NAME_RULE.contains(&MAX_NAME_LEN.to_string()));
    }

    #[test]
    fn memory_of_regions_is_known_by_its_name() {
        for of_a_region in ["domstat:web1", "domstat-web1", "domstat:", "domstat:a\nb"] {
            assert!(is_region_memfd(format!("/memfd:{of_a_region} (deleted)").as_bytes()));
        }
        for other in [
            "/memfd:domstat-frame:web1 (deleted)",
            "/memfd:domstats (deleted)",
            "/dev/shm/domstat:web1",
            "/memfd:",
            "socket:[7]",
        ] {
            assert!(!is_region_memfd(other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn entries_are_told_apart_by_their_suffix() {
        assert_eq!(Entry::of("web1.domstat"), Some(Entry::Region("web1")));
        assert_eq!(Entry::of("a.sock.domstat"), Some(Entry::Region("a.sock")));
        assert_eq!(Entry::of("qemu.sock"), Some(Entry::Socket("qemu")));
        for ignored in [".domstat", ".x.domstat", ".sock", ".7.sock", "web1", "web1.txt"] {
            assert_eq!(Entry::of(ignored), None, "{ignored}");
        }
    }

    #[test]
    fn links_are_read_as_they_are_written() {
        let link = RegionLink { pid: 4242, fd: 6 };
        assert_eq!(link.to_string(), "/proc/4242/fd/6");
        assert_eq!(RegionLink::parse("/proc/4242/fd/6"), Some(link));
        for other in [
            "/proc/0/fd/6",
            "/proc/-1/fd/6",
            "/proc/+1/fd/6",
            "/proc/self/fd/6",
            "/proc/1/fd/6/7",
            "/proc/1/fd/",
            "/proc/4294967295/fd/1",
            "proc/1/fd/6",
            "/etc/passwd",
        ] {
            assert_eq!(RegionLink::parse(other), None, "{other}");
        }
    }
}
