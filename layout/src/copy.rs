//! Copies of a group's words into and out of shared memory, at the speed of memory.
//!
//! The compiler never merges relaxed atomic accesses, so the portable form moves eight bytes at a
//! time. On x86-64 the same copy is also written in assembly, 16, 32 or 64 bytes at a time, if the
//! target has SSE2 (a kernel's has not: its vector registers are those of the task that it
//! interrupted), and wider than that if it has an operating system, which saves the registers:
//! assembly is outside the language's rules about data races, and what it must not tear is only
//! what the seqlock checks anyway. Loads are never reordered with loads, nor stores with stores,
//! on this architecture, so the fences of [`crate::seqlock`] order these accesses as they do the
//! portable ones.
#![allow(unsafe_code)]

use crate::seqlock;
use crate::sync::AtomicU64;

/// How words are copied: the portable form, or a vector form that this CPU has.
///
/// Holding one proves that the CPU has the instructions, so a form can only be had from
/// [`CopyWidth::WORDS`], [`CopyWidth::BASELINE`] and [`CopyWidth::widest`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CopyWidth(Width);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
enum Width {
    Words,
    V16,
    V32,
    V64,
}

/// Whether `--cfg domstat_portable` leaves nothing but the portable form, for tools that cannot
/// look into assembly: `ci/tsan.sh`.
#[allow(unexpected_cfgs, reason = "not a cfg that Cargo knows")]
const PORTABLE: bool = cfg!(domstat_portable);

/// Fewer words than this are copied by themselves in no wider form than the baseline.
const WIDE_WORDS: usize = 8;

impl CopyWidth {
    /// Relaxed atomic words, on every architecture.
    pub const WORDS: Self = Self(Width::Words);
    /// The best form that every CPU of the target has: 16 bytes on x86-64 with SSE2.
    pub const BASELINE: Self =
        Self(if vector::HAS_16_BYTE && !PORTABLE { Width::V16 } else { Width::Words });

    /// The widest form that this CPU has.
    #[must_use]
    pub fn widest() -> Self {
        if PORTABLE {
            return Self::BASELINE;
        }
        if vector::has_64_byte() {
            return Self(Width::V64);
        }
        if vector::has_32_byte() {
            return Self(Width::V32);
        }
        Self::BASELINE
    }

    /// The form's number, for loops that are compiled once for each form so as not to ask again
    /// and again which it is: [`CopyWidth::numbered`] gives it back.
    pub(crate) const fn number(self) -> u8 {
        match self.0 {
            Width::Words => 0,
            Width::V16 => 1,
            Width::V32 => 2,
            Width::V64 => 3,
        }
    }

    /// `self`, known to the compiler to be the form with this number if it is.
    #[inline(always)]
    pub(crate) fn numbered<const NUMBER: u8>(self) -> Option<Self> {
        let known = match NUMBER {
            0 => Self(Width::Words),
            1 => Self(Width::V16),
            2 => Self(Width::V32),
            _ => Self(Width::V64),
        };
        // A form is never made of a number alone: `self` is the proof that the CPU has it.
        (known == self).then_some(known)
    }

    /// Every form that this CPU has, narrowest first.
    pub fn all() -> impl Iterator<Item = Self> {
        let widest = Self::widest();
        [Width::Words, Width::V16, Width::V32, Width::V64]
            .into_iter()
            .map(Self)
            .filter(move |form| *form <= widest)
    }

    /// `words`, `16-byte`, `32-byte` or `64-byte`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self.0 {
            Width::Words => "words",
            Width::V16 => "16-byte",
            Width::V32 => "32-byte",
            Width::V64 => "64-byte",
        }
    }

    /// Copies words out of shared memory, as many as both sides have.
    #[inline(always)]
    pub fn load(self, from: &[AtomicU64], to: &mut [u64]) {
        let n = from.len().min(to.len());
        let form = self.worth(n);
        form.load_unsettled(from, to);
        form.settle(n);
    }

    /// The form that a copy of `n` words by itself is worth: wide registers, and clearing them, pay
    /// from [`WIDE_WORDS`] on.
    #[inline(always)]
    fn worth(self, n: usize) -> Self {
        if n < WIDE_WORDS { self.min(Self::BASELINE) } else { self }
    }

    /// As [`CopyWidth::load`], for one of many copies after which [`CopyWidth::settle`] is called once.
    #[inline(always)]
    pub(crate) fn load_unsettled(self, from: &[AtomicU64], to: &mut [u64]) {
        let n = from.len().min(to.len());
        let (src, dst) = (from.as_ptr().cast::<u8>(), to.as_mut_ptr().cast::<u8>());
        let mut rest = |done: usize| {
            if let (Some(from), Some(to)) = (from.get(done..n), to.get_mut(done..n)) {
                seqlock::load_words(from, to);
            }
        };
        // Each form copies its own rest, so that of a length that the compiler knows none is left.
        match self.0 {
            Width::Words => rest(0),
            // SAFETY: both sides have n words; `to` is borrowed mutably, so nobody else reaches it;
            // the form proves that the CPU has the instructions.
            Width::V16 => rest(unsafe { vector::load16(src, dst, n) }),
            // SAFETY: as above.
            Width::V32 => rest(unsafe { vector::copy32(src, dst, n) }),
            // SAFETY: as above.
            Width::V64 => rest(unsafe { vector::copy64(src, dst, n) }),
        }
    }

    /// Copies words into shared memory, as many as both sides have.
    #[inline(always)]
    pub fn store(self, to: &[AtomicU64], from: &[u64]) {
        let n = from.len().min(to.len());
        let (src, dst) = (from.as_ptr().cast::<u8>(), to.as_ptr().cast_mut().cast::<u8>());
        let rest = |done: usize| {
            if let (Some(to), Some(from)) = (to.get(done..n), from.get(done..n)) {
                seqlock::store_words(to, from);
            }
        };
        match self.0 {
            Width::Words => rest(0),
            // SAFETY: both sides have n words; atomics may be written through a shared reference,
            // and words that are not atomics cannot overlap them; the form proves that the CPU has
            // the instructions.
            Width::V16 => rest(unsafe { vector::store16(src, dst, n) }),
            // SAFETY: as above.
            Width::V32 => rest(unsafe { vector::copy32(src, dst, n) }),
            // SAFETY: as above.
            Width::V64 => rest(unsafe { vector::copy64(src, dst, n) }),
        }
        self.settle(n);
    }

    /// Clears the upper halves of the vector registers if copies of `n` words may have used them:
    /// code compiled for SSE runs slowly on some CPUs while they are dirty.
    #[inline(always)]
    pub(crate) fn settle(self, n: usize) {
        if self.0 >= Width::V32 && n >= 4 {
            // SAFETY: the form proves that the CPU has AVX.
            unsafe { vector::zero_upper() };
        }
    }
}

pub(crate) use vector::prefetch;

#[cfg(not(all(target_arch = "x86_64", target_feature = "sse2", not(miri))))]
use no_vector as vector;
#[cfg(all(target_arch = "x86_64", target_feature = "sse2", not(miri)))]
use x86_64 as vector;

/// What stands for the vector forms where there are none.
#[cfg(not(all(target_arch = "x86_64", target_feature = "sse2", not(miri))))]
mod no_vector {
    pub(super) const HAS_16_BYTE: bool = false;
    pub(super) const fn has_32_byte() -> bool {
        false
    }
    pub(super) const fn has_64_byte() -> bool {
        false
    }
    pub(crate) const fn prefetch(_: *const u8, _: usize) {}

    /// Copies nothing.
    ///
    /// # Safety
    /// None: as the others are.
    pub(super) const unsafe fn load16(_: *const u8, _: *mut u8, _: usize) -> usize {
        0
    }
    pub(super) use load16 as copy32;
    pub(super) use load16 as copy64;
    pub(super) use load16 as store16;
    /// Changes nothing.
    ///
    /// # Safety
    /// None: as the other is.
    pub(super) const unsafe fn zero_upper() {}
}

#[cfg(all(target_arch = "x86_64", target_feature = "sse2", not(miri)))]
mod x86_64 {
    use core::arch::asm;
    use core::arch::x86_64::{__m128i, _MM_HINT_T0, _mm_prefetch};

    #[cfg(feature = "wide-copy")]
    cpufeatures::new!(avx, "avx");
    #[cfg(feature = "wide-copy")]
    cpufeatures::new!(avx512, "avx512f");

    pub(super) const HAS_16_BYTE: bool = true;

    /// Whether an operating system saves registers that only some CPUs have. That the CPU says so
    /// (XCR0) means nothing to code that runs below an operating system.
    const OS: bool = cfg!(not(target_os = "none"));

    #[cfg(feature = "wide-copy")]
    pub(super) fn has_32_byte() -> bool {
        OS && avx::get()
    }

    #[cfg(feature = "wide-copy")]
    pub(super) fn has_64_byte() -> bool {
        OS && avx512::get()
    }

    /// What the target promises, without asking the CPU.
    #[cfg(not(feature = "wide-copy"))]
    pub(super) fn has_32_byte() -> bool {
        OS && cfg!(target_feature = "avx")
    }

    /// As above.
    #[cfg(not(feature = "wide-copy"))]
    pub(super) fn has_64_byte() -> bool {
        OS && cfg!(target_feature = "avx512f")
    }

    /// Asks the CPU to fetch `len` bytes from `at` on into its cache: a hint about an address, which
    /// need not be mapped.
    #[inline(always)]
    pub(crate) fn prefetch(at: *const u8, len: usize) {
        for line in (0..len).step_by(64) {
            // SAFETY: prefetch instructions do not fault, whatever the address, and change nothing.
            unsafe { _mm_prefetch::<{ _MM_HINT_T0 }>(at.wrapping_add(line).cast()) };
        }
    }

    /// 16 bytes of shared memory, in a register: the compiler stores them where they are needed.
    /// Not `readonly`, so that for the compiler it is a barrier.
    ///
    /// # Safety
    /// `src` is readable for 16 bytes from `AT` on.
    #[inline(always)]
    unsafe fn get16<const AT: usize>(src: *const u8) -> __m128i {
        let bytes: __m128i;
        // SAFETY: reads these 16 bytes only (promise of the caller), needs no alignment, and every
        // x86-64 CPU has the instruction.
        unsafe {
            asm!(
                "movups {bytes}, [{src} + {at}]",
                src = in(reg) src,
                at = const AT,
                bytes = out(xmm_reg) bytes,
                options(nostack, preserves_flags),
            );
        }
        bytes
    }

    /// Stores a register in shared memory.
    ///
    /// # Safety
    /// `dst` is writable for 16 bytes from `AT` on.
    #[inline(always)]
    unsafe fn put16<const AT: usize>(dst: *mut u8, bytes: __m128i) {
        // SAFETY: writes these 16 bytes only (promise of the caller), needs no alignment, and every
        // x86-64 CPU has the instruction.
        unsafe {
            asm!(
                "movups [{dst} + {at}], {bytes}",
                dst = in(reg) dst,
                at = const AT,
                bytes = in(xmm_reg) bytes,
                options(nostack, preserves_flags),
            );
        }
    }

    /// Moves 16 bytes from `AT` on out of shared memory.
    ///
    /// # Safety
    /// `src` is readable and `dst` writable up to there, and nothing but the caller reaches `dst`.
    #[inline(always)]
    unsafe fn load16_at<const AT: usize>(src: *const u8, dst: *mut u8) {
        // SAFETY: the caller's promise.
        let bytes = unsafe { get16::<AT>(src) };
        // SAFETY: the caller's promise.
        unsafe { dst.wrapping_add(AT).cast::<__m128i>().write_unaligned(bytes) };
    }

    /// Moves 16 bytes from `AT` on into shared memory.
    ///
    /// # Safety
    /// `src` is readable and `dst` writable up to there, and nothing writes `src` meanwhile.
    #[inline(always)]
    unsafe fn store16_at<const AT: usize>(src: *const u8, dst: *mut u8) {
        // SAFETY: the caller's promise.
        let bytes = unsafe { src.wrapping_add(AT).cast::<__m128i>().read_unaligned() };
        // SAFETY: the caller's promise.
        unsafe { put16::<AT>(dst, bytes) };
    }

    /// Defines a copy of as many of `n` words as are pairs, out of shared memory or into it.
    macro_rules! copy_by_16 {
        ($(#[doc = $doc:literal])+ $name:ident, $move:ident) => {
            $(#[doc = $doc])+
            #[inline(always)]
            pub(super) unsafe fn $name(src: *const u8, dst: *mut u8, n: usize) -> usize {
                let at = |done: usize| (src.wrapping_add(done * 8), dst.wrapping_add(done * 8));
                let mut done = 0;
                while done + 8 <= n {
                    let (src, dst) = at(done);
                    // SAFETY: 64 bytes of what the caller promised are left on both sides.
                    unsafe { $move::<0>(src, dst) };
                    // SAFETY: as above.
                    unsafe { $move::<16>(src, dst) };
                    // SAFETY: as above.
                    unsafe { $move::<32>(src, dst) };
                    // SAFETY: as above.
                    unsafe { $move::<48>(src, dst) };
                    done += 8;
                }
                let (src, dst) = at(done);
                let pairs = (n - done) / 2;
                if pairs > 0 {
                    // SAFETY: so many times 16 bytes are left.
                    unsafe { $move::<0>(src, dst) };
                }
                if pairs > 1 {
                    // SAFETY: as above.
                    unsafe { $move::<16>(src, dst) };
                }
                if pairs > 2 {
                    // SAFETY: as above.
                    unsafe { $move::<32>(src, dst) };
                }
                done + pairs * 2
            }
        };
    }
    copy_by_16! {
        /// Copies as many of `n` words as are pairs out of shared memory; returns how many words.
        ///
        /// # Safety
        /// `src` is readable and `dst` writable for `8 * n` bytes, they do not overlap, and nothing
        /// but the caller reaches `dst`.
        load16, load16_at
    }
    copy_by_16! {
        /// As [`load16`], into shared memory.
        ///
        /// # Safety
        /// As there, of `src` and `dst` in turn.
        store16, store16_at
    }

    /// Copies a fixed number of bytes.
    type Block = unsafe fn(*const u8, *mut u8);

    /// Defines a function that moves one block: every load before the first store. Not `readonly`,
    /// because `dst` is written; for the compiler it is a barrier.
    macro_rules! block {
        ($name:ident, $($line:literal)+, $($clobber:tt)+) => {
            /// # Safety
            /// Both sides are as long as the block; the CPU has the instructions.
            #[inline(always)]
            unsafe fn $name(src: *const u8, dst: *mut u8) {
                // SAFETY: touches the block's bytes at `src` and `dst` only (promise of the
                // caller), needs no alignment, and the registers are declared.
                unsafe {
                    asm!(
                        $($line,)+
                        src = in(reg) src,
                        dst = in(reg) dst,
                        $(out($clobber) _,)+
                        options(nostack, preserves_flags),
                    );
                }
            }
        };
    }
    block!(move32,
        "vmovups ymm0, [{src}]"
        "vmovups [{dst}], ymm0",
        "xmm0");
    block!(move64_by_32,
        "vmovups ymm0, [{src}]"
        "vmovups ymm1, [{src} + 32]"
        "vmovups [{dst}], ymm0"
        "vmovups [{dst} + 32], ymm1",
        "xmm0" "xmm1");
    block!(move64,
        "vmovups zmm0, [{src}]"
        "vmovups [{dst}], zmm0",
        "xmm0");
    // Not `movups`, which does not mix with the wider blocks' registers.
    block!(vmove16,
        "vmovups xmm0, [{src}]"
        "vmovups [{dst}], xmm0",
        "xmm0");

    /// Copies blocks of 64 bytes, then one of 32, then one of 16, as far as `n` words go; returns
    /// how many words.
    ///
    /// # Safety
    /// `src` is readable and `dst` writable for `8 * n` bytes, they do not overlap, and the blocks
    /// copy 64, 32 and 16 bytes with instructions that the CPU has.
    #[inline(always)]
    unsafe fn copy(src: *const u8, dst: *mut u8, n: usize, blocks: [Block; 3]) -> usize {
        let [block64, block32, block16] = blocks;
        let at = |done: usize| (src.wrapping_add(done * 8), dst.wrapping_add(done * 8));
        let mut done = 0;
        while done + 8 <= n {
            let (src, dst) = at(done);
            // SAFETY: 64 bytes of what the caller promised are left on both sides.
            unsafe { block64(src, dst) };
            done += 8;
        }
        if done + 4 <= n {
            let (src, dst) = at(done);
            // SAFETY: 32 bytes of what the caller promised are left on both sides.
            unsafe { block32(src, dst) };
            done += 4;
        }
        if done + 2 <= n {
            let (src, dst) = at(done);
            // SAFETY: 16 bytes of what the caller promised are left on both sides.
            unsafe { block16(src, dst) };
            done += 2;
        }
        done
    }

    /// # Safety
    /// As for [`copy`], of the two pointers and `n`, and the CPU has AVX.
    #[inline(always)]
    pub(super) unsafe fn copy32(src: *const u8, dst: *mut u8, n: usize) -> usize {
        // SAFETY: the caller's promise.
        unsafe { copy(src, dst, n, [move64_by_32, move32, vmove16]) }
    }

    /// # Safety
    /// As for [`copy`], of the two pointers and `n`, and the CPU has AVX-512F.
    #[inline(always)]
    pub(super) unsafe fn copy64(src: *const u8, dst: *mut u8, n: usize) -> usize {
        // SAFETY: the caller's promise; a CPU that has AVX-512F has AVX.
        unsafe { copy(src, dst, n, [move64, move32, vmove16]) }
    }

    /// # Safety
    /// The CPU has AVX.
    #[inline(always)]
    pub(super) unsafe fn zero_upper() {
        // SAFETY: changes registers only, and declares them; the CPU has the instruction (promise
        // of the caller).
        unsafe {
            asm!(
                "vzeroupper",
                out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _,
                out("xmm4") _, out("xmm5") _, out("xmm6") _, out("xmm7") _,
                out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _,
                out("xmm12") _, out("xmm13") _, out("xmm14") _, out("xmm15") _,
                options(nostack, nomem, preserves_flags),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    #[test]
    fn every_form_copies_what_the_portable_one_copies() {
        for form in CopyWidth::all() {
            for len in 0..70 {
                for start in 0..2 {
                    let from: Vec<AtomicU64> = (0..len + start)
                        .map(|i| AtomicU64::new(i as u64 * 0x0101_0101_0101))
                        .collect();
                    let from = &from[start..];
                    let (mut expected, mut found) = ([7; 72], [7; 72]);
                    seqlock::load_words(from, &mut expected[..len]);
                    form.load(from, &mut found[..len]);
                    assert_eq!(found, expected, "{} load of {len} words", form.name());

                    let to: Vec<AtomicU64> = (0..len + 2).map(|_| AtomicU64::new(9)).collect();
                    form.store(&to[1..=len], &expected[..len]);
                    let stored: Vec<u64> = to.into_iter().map(AtomicU64::into_inner).collect();
                    assert_eq!(stored[1..=len], expected[..len], "{} store", form.name());
                    assert_eq!(
                        (stored[0], stored[len + 1]),
                        (9, 9),
                        "{} store stays inside",
                        form.name()
                    );
                }
            }
        }
    }

    #[test]
    fn the_shorter_side_decides() {
        let from: Vec<AtomicU64> = (0..20).map(AtomicU64::new).collect();
        for form in CopyWidth::all() {
            let mut short = [0; 11];
            form.load(&from, &mut short);
            assert_eq!(short[10], 10);
            let mut long = [99; 22];
            form.load(&from, &mut long);
            assert_eq!((long[19], long[20]), (19, 99));
        }
    }
}
