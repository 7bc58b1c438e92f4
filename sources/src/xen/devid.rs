//! Numbers and names of a domain's disks, as libxl reads them (xen-vbd-interface(7)).

/// The disk and partition of a virtual block device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    Xvd,
    Hd,
    Sd,
}

impl Scheme {
    const ALL: [Self; 3] = [Self::Xvd, Self::Hd, Self::Sd];

    const fn prefix(self) -> &'static str {
        match self {
            Self::Xvd => "xvd",
            Self::Hd => "hd",
            Self::Sd => "sd",
        }
    }

    /// The largest disk index and partition.
    const fn limits(self) -> (u32, u32) {
        match self {
            Self::Xvd => ((1 << 20) - 1, 255),
            Self::Hd => (3, 63),
            Self::Sd => (15, 15),
        }
    }

    const fn devid(self, disk: u32, partition: u32) -> u32 {
        match self {
            Self::Xvd if disk <= 15 && partition <= 15 => 202 << 8 | disk << 4 | partition,
            Self::Xvd => 1 << 28 | disk << 8 | partition,
            Self::Hd => (if disk < 2 { 3 } else { 22 }) << 8 | (disk & 1) << 6 | partition,
            Self::Sd => 8 << 8 | disk << 4 | partition,
        }
    }
}

/// The number of the disk that a domain's configuration calls `name`: `xvdX[N]`, `hdX[N]`,
/// `sdX[N]`, `dNpM`, or the number itself in decimal, octal (0...) or hexadecimal (0x...).
///
/// ```
/// use domstat_sources::xen::devid;
/// assert_eq!(devid("xvda"), Some(51712));
/// assert_eq!(devid("0xca00"), Some(51712));
/// assert_eq!(devid("sda01"), None);
/// ```
#[must_use]
pub fn devid(name: &str) -> Option<u32> {
    if let Some((disk, partition)) = d_p(name) {
        return Some(Scheme::Xvd.devid(disk, partition));
    }
    for scheme in Scheme::ALL {
        if let Some((disk, partition)) = letters_and_partition(name, scheme) {
            return Some(scheme.devid(disk, partition));
        }
    }
    number(name).filter(|&number| number <= i32::MAX.unsigned_abs())
}

/// What a domain sees the disk with this number as; the number itself where it has no name.
#[must_use]
pub fn disk_name(devid: u32) -> String {
    let (scheme, disk, partition) = match (devid >> 28, devid >> 8) {
        (1, _) => (Scheme::Xvd, devid >> 8 & 0xf_ffff, devid & 0xff),
        (_, 202) => (Scheme::Xvd, devid >> 4 & 0xf, devid & 0xf),
        (_, 8) => (Scheme::Sd, devid >> 4 & 0xf, devid & 0xf),
        (_, 3) if devid & 0x80 == 0 => (Scheme::Hd, devid >> 6 & 1, devid & 0x3f),
        (_, 22) if devid & 0x80 == 0 => (Scheme::Hd, 2 + (devid >> 6 & 1), devid & 0x3f),
        _ => return devid.to_string(),
    };
    let mut name = format!("{}{}", scheme.prefix(), letters(disk));
    if partition > 0 {
        name.push_str(&partition.to_string());
    }
    // The same disk can have two numbers; only one of them is what its name stands for.
    if self::devid(&name) == Some(devid) { name } else { devid.to_string() }
}

/// `dNpM`, each in the notations of C.
fn d_p(name: &str) -> Option<(u32, u32)> {
    let (disk, partition) = name.strip_prefix('d')?.split_once('p')?;
    let (disk, partition) = (number(disk)?, number(partition)?);
    (disk < 1 << 20 && partition < 256).then_some((disk, partition))
}

/// A number as C's strtoul reads one with base 0: decimal, 0 octal, 0x hexadecimal.
fn number(text: &str) -> Option<u32> {
    let (digits, radix) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => (digits, 16),
        None if text.len() > 1 && text.starts_with('0') => (text, 8),
        None => (text, 10),
    };
    let plain = !digits.is_empty() && digits.chars().all(|c| c.is_digit(radix));
    if plain { u32::from_str_radix(digits, radix).ok() } else { None }
}

/// Letters that count a, b, ... z, aa, ab, ..., and a partition without leading zeros.
fn letters_and_partition(name: &str, scheme: Scheme) -> Option<(u32, u32)> {
    let (most_disks, most_partitions) = scheme.limits();
    let rest = name.strip_prefix(scheme.prefix())?;
    let end = rest.find(|c: char| !c.is_ascii_lowercase()).unwrap_or(rest.len());
    let (letters, partition) = rest.split_at_checked(end)?;
    let mut disk: Option<u32> = None;
    for letter in letters.bytes() {
        let digit = u32::from(letter - b'a');
        let next = disk.map_or(Some(0), |disk| disk.checked_add(1)?.checked_mul(26))?;
        let next = next.checked_add(digit)?;
        if next > most_disks {
            return None;
        }
        disk = Some(next);
    }
    let partition = match partition {
        "" => 0,
        digits if digits.starts_with('0') => return None,
        digits if digits.bytes().all(|c| c.is_ascii_digit()) => digits.parse().ok()?,
        _ => return None,
    };
    (partition <= most_partitions).then_some((disk?, partition))
}

fn letters(disk: u32) -> String {
    let mut letters = Vec::new();
    let mut left = Some(disk);
    while let Some(disk) = left {
        letters.push(char::from_digit(disk % 26 + 10, 36).unwrap_or('a'));
        left = (disk / 26).checked_sub(1);
    }
    letters.iter().rev().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_libxl_reads_them() {
        let cases = [
            ("xvda", Some(51712)),
            ("xvda1", Some(51713)),
            ("xvdp15", Some(202 << 8 | 15 << 4 | 15)),
            ("xvda16", Some(1 << 28 | 16)),
            ("xvdq", Some(1 << 28 | 16 << 8)),
            ("xvdz255", Some(1 << 28 | 25 << 8 | 255)),
            ("xvdaa", Some(1 << 28 | 26 << 8)),
            ("xvdzz", Some(1 << 28 | 701 << 8)),
            ("xvdbhwzh", None), // one above 2^20 - 1
            ("xvda256", None),
            ("xvda01", None),
            ("xvd", None),
            ("xvdA", None),
            ("d0p0", Some(51712)),
            ("d16p1", Some(1 << 28 | 16 << 8 | 1)),
            ("d0x10p0", Some(1 << 28 | 16 << 8)),
            ("d010p0", Some(202 << 8 | 8 << 4)),
            ("d1048576p0", None),
            ("d0p256", None),
            ("d0", None),
            ("hda", Some(3 << 8)),
            ("hdb1", Some(3 << 8 | 64 | 1)),
            ("hdc", Some(22 << 8)),
            ("hdd63", Some(22 << 8 | 64 | 63)),
            ("hde", None),
            ("hda64", None),
            ("sda", Some(8 << 8)),
            ("sdp15", Some(8 << 8 | 15 << 4 | 15)),
            ("sdq", None),
            ("sda16", None),
            ("51712", Some(51712)),
            ("0xca00", Some(51712)),
            ("0145000", Some(51712)),
            ("2147483648", None),
            ("99999999999", None),
            ("", None),
            ("-1", None),
            ("+1", None),
            ("vda", None),
        ];
        for (name, expected) in cases {
            assert_eq!(devid(name), expected, "{name}");
        }
    }

    #[test]
    fn the_largest_disk_is_the_last_below_two_to_the_twenty() {
        let last = letters((1 << 20) - 1);
        assert_eq!(devid(&format!("xvd{last}")), Some(1 << 28 | ((1 << 20) - 1) << 8));
        let after = letters(1 << 20);
        assert_eq!(devid(&format!("xvd{after}")), None);
    }

    #[test]
    fn numbers_have_the_names_that_stand_for_them() {
        for name in ["xvda", "xvdp15", "xvda16", "xvdq", "xvdaa", "xvdzz9", "hda", "hdd63", "sdp15"]
        {
            assert_eq!(disk_name(devid(name).unwrap()), name);
        }
        // Not what xvda or hda stand for, so they keep their numbers.
        for devid in [0, 1, 1 << 28, 3 << 8 | 128, 4 << 8, 202 << 8 | 1 << 28] {
            let name = disk_name(devid);
            assert_eq!(self::devid(&name), Some(devid), "{name}");
        }
    }

    proptest::proptest! {
        #[test]
        fn a_name_always_leads_back_to_its_number(devid in 0..=u32::MAX >> 1) {
            assert_eq!(self::devid(&disk_name(devid)), Some(devid));
        }

        #[test]
        fn no_text_is_a_surprise(text in "[dp0-9a-zA-Zx+ -]{0,12}") {
            let _ = devid(&text);
        }
    }
}
