//! `mmap-sync`, which is used through an unsafe function and knows no arrays of any length.
#![allow(unsafe_code)]

use std::sync::Arc;
use std::time::Duration;

use mmap_sync::synchronizer::Synchronizer;
use tempfile::TempDir;

use crate::peers::{Peer, Read, Write};

/// `mmap-sync`.
pub struct MmapSync;
/// Either side: its own mapping of the same files, which go with the last of them.
pub struct Side(Synchronizer, #[expect(dead_code, reason = "held for its drop")] Arc<TempDir>);

/// As its README advises: a tmpfs, where there is one.
fn directory() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a directory")
}

macro_rules! of_length {
    ($($n:literal)+) => { $(
        impl Peer<$n> for MmapSync {
            type Writer = Side;
            type Reader = Side;
            const NAME: &'static str = "mmap-sync";
            fn pair() -> (Side, Side) {
                let directory = Arc::new(directory());
                let prefix = directory.path().join("value");
                let side = || Side(Synchronizer::new(prefix.as_os_str()), Arc::clone(&directory));
                let (mut writer, reader) = (side(), side());
                writer.write(&[0; $n]);
                (writer, reader)
            }
        }

        impl Write<$n> for Side {
            fn write(&mut self, from: &[u64; $n]) {
                self.0.write(from, Duration::from_micros(1)).expect("the files are there");
            }
        }

        impl Read<$n> for Side {
            fn read(&mut self, to: &mut [u64; $n]) -> u64 {
                // SAFETY: what is read are plain integers, of the type that was written, copied
                // at once; that they may be torn is a property of the subject.
                let value = unsafe { self.0.read::<[u64; $n]>(false) };
                *to = *value.expect("the files are there");
                0
            }
        }
    )+ };
}
of_length!(8 16 32 64);
