use zerocopy::{FromZeros, IntoBytes};

use super::super::domctl::{Domctl, SchedulerOp, domain_info_len};

use super::*;
use crate::status::DomainStatus;

/// A Xen of these interface versions.
struct Made {
    xen: u32,
    sysctl: u32,
    domctl: u32,
    scheduler: u32,
}

impl Made {
    const fn new(minor: u32, sysctl: u32, domctl: u32) -> Self {
        Self { xen: 4 << 16 | minor, sysctl, domctl, scheduler: 6 }
    }
}

fn refuse_other(version: u32, own: u32) -> io::Result<()> {
    if version == own { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::EACCES)) }
}

impl Calls for Made {
    fn domain_infos(&mut self, version: u32, _: u16, _: usize) -> io::Result<Vec<DomainInfo>> {
        refuse_other(version, self.sysctl)?;
        Ok(vec![DomainInfo::new_zeroed()])
    }

    fn vcpu_info(&mut self, version: u32, _: u16, _: u32) -> io::Result<VcpuInfo> {
        refuse_other(version, self.domctl)?;
        Ok(VcpuInfo::new_zeroed())
    }

    fn scheduling(&mut self, version: u32, _: u16, id: u32) -> io::Result<SchedulerOp> {
        refuse_other(version, self.domctl)?;
        if id != self.scheduler {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        let mut answer = Domctl::getinfo(version, 0, id).scheduler_op();
        (answer.weight, answer.cap) = (512, 50);
        Ok(answer)
    }

    fn xen_version(&mut self) -> io::Result<u32> {
        Ok(self.xen)
    }
}

#[test]
fn the_versions_of_every_release_since_4_13_are_found_separately() {
    // As the table of `domctl` has them; a release may number one of the two on.
    let releases = [
        (13, 0x12, 0x12),
        (14, 0x13, 0x12),
        (15, 0x13, 0x13),
        (16, 0x14, 0x14),
        (17, 0x15, 0x15),
        (18, 0x15, 0x16),
        (19, 0x15, 0x17),
        (20, 0x15, 0x17),
        (21, 0x16, 0x17),
        (22, 0x16, 0x18),
    ];
    for (minor, sysctl, domctl) in releases {
        let mut made = Made::new(minor, sysctl, domctl);
        assert_eq!(Versions::find(&mut made).unwrap(), Versions { sysctl, domctl }, "4.{minor}");
    }
}

#[test]
fn another_xen_is_refused_with_what_it_accepts_and_what_this_program_does() {
    // XCP-ng 7.6, and one that is newer than this program in one of the two only.
    for (minor, sysctl, domctl) in [(7, 0x0f, 0x0c), (23, 0x16, 0x19), (23, 0x17, 0x18)] {
        let mut made = Made::new(minor, sysctl, domctl);
        let text = Versions::find(&mut made).unwrap_err().to_string();
        let found = format!("Xen 4.{minor} accepts sysctl {sysctl:#x} and domctl {domctl:#x}");
        assert!(text.contains(&found), "{text}");
        assert!(text.contains("sysctl 0x12 to 0x16 and domctl 0x12 to 0x18"), "{text}");
    }
    let mut made = Made::new(99, 0x1000, 0x15);
    let text = Versions::find(&mut made).unwrap_err().to_string();
    assert!(text.contains("sysctl an unknown version and domctl 0x15"), "{text}");
}

#[test]
fn only_the_scheduler_of_a_domain_has_its_weight() {
    let mut made = Made::new(17, 0x15, 0x15);
    // RTDS and null have none.
    for (id, weighs) in [(5, true), (6, true), (8, false), (9, false)] {
        made.scheduler = id;
        let found = scheduling(&mut made, 0x15, 1).unwrap();
        assert_eq!(found, weighs.then_some(Scheduling { id, weight: 512, cap: 50 }));
    }
    assert!(scheduling(&mut made, 0x16, 1).is_err(), "another version");
}

#[test]
fn a_record_from_before_4_16_is_read_to_its_end() {
    let mut new = DomainInfo::new_zeroed();
    (new.domain, new.tot_pages, new.cpupool, new.gpaddr_bits) = (7, 9, 3, 39);
    let long = new.as_bytes();
    assert_eq!(domain_info_len(0x14) - domain_info_len(0x13), 8);
    let short = &long[..domain_info_len(0x13)];
    let old = DomainInfo::from_record(0x13, short).unwrap();
    assert_eq!((old.domain, old.tot_pages, old.cpupool, old.gpaddr_bits), (7, 9, 3, 0));
    assert_eq!(DomainInfo::from_record(0x14, long).unwrap().as_bytes(), long);
    assert!(DomainInfo::from_record(0x14, short).is_none(), "a record that is cut off");
}

#[test]
fn states_are_those_of_libvirt() {
    let state = |flags| {
        let mut info = DomainInfo::new_zeroed();
        info.flags = flags;
        info.libvirt_state()
    };
    // Bits: dying 0, shutdown 2, paused 3, blocked 4, running 5; the reason from 16 on.
    assert_eq!((state(1 << 4), state(1 << 5), state(1 << 3 | 1 << 4)), (1, 1, 3));
    let shut_down = |reason: u32| state(1 << 2 | reason << 16);
    assert_eq!([0, 1, 2, 3, 4].map(shut_down), [4, 4, 3, 6, 6]);
    assert_eq!(state(1), 4);
}

#[test]
fn states_have_the_words_of_every_source() {
    let state = |flags| {
        let mut info = DomainInfo::new_zeroed();
        info.flags = flags;
        let (state, reason) = info.state();
        DomainStatus::new(state, reason, None).words()
    };
    assert_eq!(state(1 << 4), ("running", None));
    assert_eq!(state(1 << 3 | 1 << 4), ("paused", Some("user")));
    let shut_down = |reason: u32| state(1 << 2 | reason << 16);
    assert_eq!(shut_down(0), ("shutdown", Some("guest")));
    assert_eq!(shut_down(1), ("shutdown", Some("guest")));
    assert_eq!(shut_down(2), ("suspended", Some("user")));
    assert_eq!(shut_down(3), ("crashed", Some("panic")));
    assert_eq!(shut_down(4), ("crashed", Some("watchdog")));
    assert_eq!(state(1 | 1 << 2), ("dying", None));
}
