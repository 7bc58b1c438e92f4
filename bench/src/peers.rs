//! One way to share `N` words between a writer and a reader, for each that is compared.

use std::hint::black_box;
use std::sync::Arc;

use arc_swap::ArcSwap;
use crossbeam_utils::Backoff;
use crossbeam_utils::atomic::AtomicCell;
use domstat_layout::{CopyWidth, GroupSpan, ReadMem, TwinSpans, WriteMem};

use crate::harness::{Subject, again};
use crate::mem::{Shared, Target};

/// A value of `N` words with one writer and one reader.
pub trait Peer<const N: usize> {
    /// The writer's side.
    type Writer: Write<N> + Send + 'static;
    /// The reader's side.
    type Reader: Read<N> + Send + 'static;
    /// Its name in tables.
    const NAME: &'static str;
    /// A new value, all words zero.
    fn pair() -> (Self::Writer, Self::Reader);
}

/// Writes the value.
pub trait Write<const N: usize> {
    /// Writes all words.
    fn write(&mut self, from: &[u64; N]);
}

/// Reads the value.
pub trait Read<const N: usize> {
    /// Reads all words; returns how often it had to begin again.
    fn read(&mut self, to: &mut [u64; N]) -> u64;
}

/// Where a group and its twin start in their page: such that their fields start on a cache line.
pub const FIRST: usize = 48;
const SECOND: usize = 2048 + 48;
pub const HEADER: usize = 16;

/// No protocol: the bytes are copied, whole or torn.
pub struct Torn;
/// The writer's and the reader's side of what lies in a shared page.
pub struct InPage(Shared);

impl<const N: usize> Peer<N> for Torn {
    type Writer = OneCopy;
    type Reader = InPage;
    const NAME: &'static str = "memcpy (torn)";
    fn pair() -> (OneCopy, InPage) {
        let page = Shared::new();
        (OneCopy(page.write()), InPage(page))
    }
}

impl<const N: usize> Read<N> for InPage {
    #[inline(always)]
    fn read(&mut self, to: &mut [u64; N]) -> u64 {
        self.0.torn_copy(FIRST + HEADER, to);
        0
    }
}

/// A domstat group.
pub struct Domstat;
/// Its writer.
pub struct OneCopy(pub WriteMem<'static>);
/// Its reader.
#[derive(Clone)]
pub struct OneCopyReader(pub ReadMem<'static>);

impl<const N: usize> Peer<N> for Domstat {
    type Writer = OneCopy;
    type Reader = OneCopyReader;
    const NAME: &'static str = "domstat";
    fn pair() -> (OneCopy, OneCopyReader) {
        let page = Shared::new();
        let mut writer = OneCopy(page.write());
        writer.write(&[0; N]);
        (writer, OneCopyReader(page.read().with_form(CopyWidth::widest())))
    }
}

impl<const N: usize> Write<N> for OneCopy {
    #[inline(always)]
    fn write(&mut self, from: &[u64; N]) {
        if let Some(mut group) = self.0.group(FIRST, HEADER + N * 8) {
            group.write(1, from);
        }
    }
}

impl<const N: usize> Read<N> for OneCopyReader {
    #[inline(always)]
    fn read(&mut self, to: &mut [u64; N]) -> u64 {
        if self.attempt(to) { 0 } else { again_until(|| self.attempt(to)) }
    }
}

impl OneCopyReader {
    #[inline(always)]
    fn attempt<const N: usize>(&self, to: &mut [u64; N]) -> bool {
        let group = self.0.group(FIRST, HEADER + N * 8);
        group.is_some_and(|group| group.try_read(to, || ()).is_ok())
    }
}

/// Where a group of `N` fields and its twin lie in a page.
const fn twin_spans<const N: usize>() -> TwinSpans {
    let size = HEADER + N * 8;
    TwinSpans {
        first: GroupSpan { offset: FIRST, size, mask: 0b01 },
        second: Some(GroupSpan { offset: SECOND, size, mask: 0b10 }),
    }
}

/// A domstat group and its twin, as producer and consumer write and read them.
pub struct DomstatTwins;
/// Their writer.
pub struct TwinsWriter(pub WriteMem<'static>);
/// Their reader.
#[derive(Clone)]
pub struct TwinsReader(pub ReadMem<'static>);

impl<const N: usize> Peer<N> for DomstatTwins {
    type Writer = TwinsWriter;
    type Reader = TwinsReader;
    const NAME: &'static str = "domstat, twins";
    fn pair() -> (TwinsWriter, TwinsReader) {
        let page = Shared::new();
        let mut writer = TwinsWriter(page.write());
        writer.write(&[0; N]);
        (writer, TwinsReader(page.read().with_form(CopyWidth::widest())))
    }
}

impl<const N: usize> Write<N> for TwinsWriter {
    #[inline(always)]
    fn write(&mut self, from: &[u64; N]) {
        if let Some(mut twins) = self.0.twins(twin_spans::<N>()) {
            twins.write(1, from);
        }
    }
}

impl<const N: usize> Read<N> for TwinsReader {
    #[inline(always)]
    fn read(&mut self, to: &mut [u64; N]) -> u64 {
        if self.attempt(to) { 0 } else { again_until(|| self.attempt(to)) }
    }
}

impl TwinsReader {
    #[inline(always)]
    fn attempt<const N: usize>(&self, to: &mut [u64; N]) -> bool {
        let twins = self.0.twins(twin_spans::<N>());
        twins.is_some_and(|twins| twins.try_read(to, |_| Some(())).is_ok())
    }
}

/// Tries until it succeeds, backing off as the consumer does; returns the attempts in vain, with
/// the one before.
#[cold]
#[inline(never)]
fn again_until(mut attempt: impl FnMut() -> bool) -> u64 {
    let backoff = Backoff::new();
    let mut retries = 0;
    loop {
        backoff.spin();
        retries += 1;
        if attempt() {
            return retries;
        }
    }
}

/// Both sides of a cell that threads share by reference.
pub struct Half<C>(Arc<C>);

macro_rules! cell_peer {
    ($peer:ident, $name:literal, $cell:ty, $new:expr,
     |$r:ident, $to:ident| $read:expr, |$w:ident, $from:ident| $write:expr) => {
        #[doc = concat!("`", $name, "`.")]
        pub struct $peer;

        impl<const N: usize> Peer<N> for $peer {
            type Writer = Half<$cell>;
            type Reader = Half<$cell>;
            const NAME: &'static str = $name;
            fn pair() -> (Half<$cell>, Half<$cell>) {
                let cell: Arc<$cell> = Arc::new($new);
                (Half(Arc::clone(&cell)), Half(cell))
            }
        }

        impl<const N: usize> Write<N> for Half<$cell> {
            #[inline(always)]
            fn write(&mut self, $from: &[u64; N]) {
                let $w = &*self.0;
                $write
            }
        }

        impl<const N: usize> Read<N> for Half<$cell> {
            #[inline(always)]
            fn read(&mut self, $to: &mut [u64; N]) -> u64 {
                let $r = &*self.0;
                $read;
                0
            }
        }
    };
}

cell_peer!(
    SeqLock,
    "seqlock",
    seqlock::SeqLock<[u64; N]>,
    seqlock::SeqLock::new([0; N]),
    |cell, to| *to = cell.read(),
    |cell, from| *cell.lock_write() = *from
);
cell_peer!(
    Crossbeam,
    "crossbeam AtomicCell",
    AtomicCell<[u64; N]>,
    AtomicCell::new([0; N]),
    |cell, to| *to = cell.load(),
    |cell, from| cell.store(*from)
);
cell_peer!(
    ParkingLot,
    "parking_lot RwLock",
    parking_lot::RwLock<[u64; N]>,
    parking_lot::RwLock::new([0; N]),
    |cell, to| *to = *cell.read(),
    |cell, from| *cell.write() = *from
);
cell_peer!(
    StdRwLock,
    "std RwLock",
    std::sync::RwLock<[u64; N]>,
    std::sync::RwLock::new([0; N]),
    |cell, to| *to = *cell.read().expect("no writer panics"),
    |cell, from| *cell.write().expect("no writer panics") = *from
);
cell_peer!(
    Swap,
    "arc-swap",
    ArcSwap<[u64; N]>,
    ArcSwap::from_pointee([0; N]),
    |cell, to| *to = **cell.load(),
    |cell, from| cell.store(Arc::new(*from))
);

/// `arc-swap` with a reader that caches the pointer.
pub struct SwapCache;
/// Its reader.
pub struct SwapCacheReader<const N: usize>(arc_swap::Cache<Arc<ArcSwap<[u64; N]>>, Arc<[u64; N]>>);

impl<const N: usize> Peer<N> for SwapCache {
    type Writer = Half<ArcSwap<[u64; N]>>;
    type Reader = SwapCacheReader<N>;
    const NAME: &'static str = "arc-swap Cache";
    fn pair() -> (Self::Writer, Self::Reader) {
        let cell = Arc::new(ArcSwap::from_pointee([0; N]));
        (Half(Arc::clone(&cell)), SwapCacheReader(arc_swap::Cache::new(cell)))
    }
}

impl<const N: usize> Read<N> for SwapCacheReader<N> {
    #[inline(always)]
    fn read(&mut self, to: &mut [u64; N]) -> u64 {
        *to = **self.0.load();
        0
    }
}

/// A subject of a race that reads.
pub fn reads<const N: usize>(mut reader: impl Read<N> + 'static) -> Subject<'static> {
    #[inline(never)]
    fn read<const N: usize>(reader: &mut impl Read<N>, to: &mut [u64; N]) -> u64 {
        reader.read(to)
    }
    let mut to = Target::new();
    again(move || read(black_box(&mut reader), black_box(&mut to.words)))
}

/// A subject of a race that writes.
pub fn writes<const N: usize>(mut writer: impl Write<N> + 'static) -> Subject<'static> {
    #[inline(never)]
    fn write<const N: usize>(writer: &mut impl Write<N>, from: &[u64; N]) {
        writer.write(from);
    }
    let from = Target::new();
    again(move || write(black_box(&mut writer), black_box(&from.words)))
}
