//! Published words: a number, "not produced", or "saturated".

use core::fmt;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// One published 64-bit quantity, exactly as it lies in shared memory (little-endian).
///
/// A word is not a number: `u64::MAX` says that the producer does not produce the field (the
/// `-1` of libvirt's statistics structures) and `u64::MAX - 1` that the counter has saturated.
/// [`Word::get`] keeps the three apart.
///
/// ```
/// use domstat_layout::{Stat, Word};
/// assert_eq!(Word::from(7).get(), Stat::Value(7));
/// assert_eq!(Word::NOT_PRODUCED.get(), Stat::NotProduced);
/// assert_eq!(Word::from(u64::MAX).get(), Stat::Saturated);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct Word(u64);

impl Word {
    /// The field is not produced ("inactive"): every bit is set.
    pub const NOT_PRODUCED: Self = Self(u64::MAX);
    /// The counter passed `u64::MAX - 2` and no longer counts.
    pub const SATURATED: Self = Self((u64::MAX - 1).to_le());

    /// The word as it lies in memory, for example from [`crate::ReadGroup::try_read`].
    #[must_use]
    pub const fn from_raw(little_endian: u64) -> Self {
        Self(little_endian)
    }

    /// The word as it lies in memory.
    #[must_use]
    pub const fn to_raw(self) -> u64 {
        self.0
    }

    /// A produced number; values too large for the layout become [`Word::SATURATED`].
    #[must_use]
    pub const fn new(value: u64) -> Self {
        if value >= u64::MAX - 1 { Self::SATURATED } else { Self(value.to_le()) }
    }

    /// What the word says.
    #[must_use]
    pub const fn get(self) -> Stat {
        match u64::from_le(self.0) {
            u64::MAX => Stat::NotProduced,
            v if v == u64::MAX - 1 => Stat::Saturated,
            v => Stat::Value(v),
        }
    }

    /// The number, if the word holds one.
    #[must_use]
    pub const fn value(self) -> Option<u64> {
        self.get().value()
    }

    /// The sum of two words: not produced if one of them is not, saturated if one of them is or a
    /// word has no room for it.
    #[inline]
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        match (self.get(), other.get()) {
            (Stat::Value(a), Stat::Value(b)) => Self::new(a.saturating_add(b)),
            (Stat::NotProduced, _) | (_, Stat::NotProduced) => Self::NOT_PRODUCED,
            _ => Self::SATURATED,
        }
    }

    /// The larger of two words: not produced if one of them is not, saturated if one of them is.
    #[inline]
    #[must_use]
    pub const fn or_larger(self, other: Self) -> Self {
        match (self.get(), other.get()) {
            (Stat::Value(a), Stat::Value(b)) => {
                if a >= b {
                    self
                } else {
                    other
                }
            }
            (Stat::NotProduced, _) | (_, Stat::NotProduced) => Self::NOT_PRODUCED,
            _ => Self::SATURATED,
        }
    }
}

impl From<u64> for Word {
    fn from(value: u64) -> Self {
        Self::new(value)
    }
}

impl From<Option<u64>> for Word {
    fn from(value: Option<u64>) -> Self {
        value.map_or(Self::NOT_PRODUCED, Self::new)
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.get(), f)
    }
}

impl fmt::Debug for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.get(), f)
    }
}

/// The answer to "what does this field say?": four different answers, never folded into zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stat {
    /// A number, in the unit that the field's name states.
    Value(u64),
    /// The group is produced, this field of it is not.
    NotProduced,
    /// The counter stopped at the largest number that the layout can hold.
    Saturated,
    /// The whole group is not produced, or the producer's revision does not know it.
    GroupInactive,
}

impl Stat {
    /// The number, if there is one.
    #[must_use]
    pub const fn value(self) -> Option<u64> {
        match self {
            Self::Value(v) => Some(v),
            Self::NotProduced | Self::Saturated | Self::GroupInactive => None,
        }
    }
}

impl fmt::Display for Stat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(v) => v.fmt(f),
            Self::NotProduced => f.pad("not produced"),
            Self::Saturated => f.pad("saturated"),
            Self::GroupInactive => f.pad("group not active"),
        }
    }
}

/// A UUID in its textual byte order (RFC 9562), as `virsh domuuid` and Xen's `domain_handle` print it.
#[derive(Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(8))]
pub struct Uuid(pub [u8; 16]);

impl Uuid {
    /// The producer knows no UUID: every bit is set.
    pub const NOT_PRODUCED: Self = Self([0xff; 16]);

    /// The bytes, if a UUID is produced.
    #[must_use]
    pub fn bytes(&self) -> Option<[u8; 16]> {
        (*self != Self::NOT_PRODUCED).then_some(self.0)
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.bytes().is_none() {
            return f.pad("not produced");
        }
        for (i, byte) in self.0.iter().enumerate() {
            if matches!(i, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A name: UTF-8, terminated by a zero byte, at most 127 bytes long.
///
/// 127 bytes hold what the longest names in use need: `namespace_name` of Kubernetes (63 + 1 + 63).
#[derive(Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(8))]
pub struct Name(pub [u8; 128]);

impl Name {
    /// The producer knows no name: every bit is set.
    pub const NOT_PRODUCED: Self = Self([0xff; 128]);
    /// The longest name in bytes, without its terminator.
    pub const MAX_LEN: usize = 127;

    /// Stores `name`, cut at a character boundary if it is longer than [`Name::MAX_LEN`] bytes
    /// or where a zero byte stands in it.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let name = name.split('\0').next().unwrap_or("");
        let most = name.len().min(Self::MAX_LEN);
        let cut = (0..=most).rev().find(|cut| name.is_char_boundary(*cut)).unwrap_or(0);
        let mut bytes = [0; 128];
        for (to, from) in bytes.iter_mut().zip(name.bytes().take(cut)) {
            *to = from;
        }
        Self(bytes)
    }

    /// The text, if one is produced, is terminated within its 128 bytes and is UTF-8.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        if *self == Self::NOT_PRODUCED {
            return None;
        }
        core::ffi::CStr::from_bytes_until_nul(&self.0).ok()?.to_str().ok()
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str().unwrap_or("not produced"))
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Nanoseconds on the region's clock ([`crate::Clock`]); never wall-clock time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ns(pub u64);

impl Ns {
    /// Time from `earlier` to `self`; zero if `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

#[cfg(test)]
mod tests {
    use std::string::String;

    use super::*;

    #[test]
    fn names_are_cut_at_a_character_boundary_and_always_terminated() {
        let long: String = "é".repeat(100);
        let name = Name::new(&long);
        assert_eq!(name.0[127], 0);
        assert_eq!(name.as_str().unwrap(), "é".repeat(63));
        assert_eq!(Name::new("a\0b").as_str(), Some("a"));
        assert_eq!(Name([b'x'; 128]).as_str(), None, "no terminator");
    }

    #[test]
    fn four_answers_stay_four_answers() {
        assert_eq!(Word::from(0).get(), Stat::Value(0));
        assert_eq!(Word::from(u64::MAX - 2).get(), Stat::Value(u64::MAX - 2));
        assert_eq!(Word::from(u64::MAX - 1).get(), Stat::Saturated);
        assert_eq!(Word::from(None).get(), Stat::NotProduced);
        assert_eq!(Word::from(None).value(), None);
    }
}
