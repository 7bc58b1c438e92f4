use zerocopy::FromZeros;

use super::*;

/// A Xen of these interface versions.
struct Made {
    xen: u32,
    sysctl: u32,
    domctl: u32,
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

    fn xen_version(&mut self) -> io::Result<u32> {
        Ok(self.xen)
    }
}

const fn release(minor: u32) -> u32 {
    4 << 16 | minor
}

#[test]
fn the_versions_of_every_release_since_4_16_are_found_separately() {
    // As the table of `domctl` has them; a release may number one of the two on.
    let releases = [
        (16, 0x14, 0x14),
        (17, 0x15, 0x15),
        (18, 0x15, 0x16),
        (19, 0x15, 0x17),
        (20, 0x15, 0x17),
        (21, 0x16, 0x17),
        (22, 0x16, 0x18),
    ];
    for (minor, sysctl, domctl) in releases {
        let mut made = Made { xen: release(minor), sysctl, domctl };
        assert_eq!(Versions::find(&mut made).unwrap(), Versions { sysctl, domctl }, "4.{minor}");
    }
}

#[test]
fn another_xen_is_refused_with_what_it_accepts_and_what_this_program_does() {
    // XCP-ng 8.2, and one that is newer than this program in one of the two only.
    for (minor, sysctl, domctl) in [(13, 0x12, 0x12), (23, 0x16, 0x19), (23, 0x17, 0x18)] {
        let mut made = Made { xen: release(minor), sysctl, domctl };
        let text = Versions::find(&mut made).unwrap_err().to_string();
        let found = format!("Xen 4.{minor} accepts sysctl {sysctl:#x} and domctl {domctl:#x}");
        assert!(text.contains(&found), "{text}");
        assert!(text.contains("sysctl 0x14 to 0x16 and domctl 0x14 to 0x18"), "{text}");
    }
    let mut made = Made { xen: release(99), sysctl: 0x1000, domctl: 0x15 };
    let text = Versions::find(&mut made).unwrap_err().to_string();
    assert!(text.contains("sysctl an unknown version and domctl 0x15"), "{text}");
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
