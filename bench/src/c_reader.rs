//! The reader in C that the layout's headers come with, compiled when the bench runs.
#![allow(unsafe_code)]

use std::ffi::{c_char, c_void};
use std::fs::File;
use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

use domstat_layout::header::dom;
use libloading::{Library, Symbol};
use memmap2::{MmapOptions, MmapRaw};

use crate::harness::Subject;

/// `domstat_bench_read` of `c/read.c`.
type Read = unsafe extern "C" fn(*const c_char, usize, u64, u64) -> u64;

/// A compiled reader and the region that it reads.
pub struct CReader {
    library: Library,
    region: MmapRaw,
    /// Where vCPU 0's record is, and how long its producer built it.
    record: (usize, usize),
    /// The running time that every read must give.
    running_ns: u64,
}

impl CReader {
    /// A reader of vCPU 0 of the region in `file`, whose running time is `running_ns`; why not, on
    /// a machine without a C compiler.
    pub fn build(file: &File, running_ns: u64) -> Result<Self, String> {
        let dir = tempfile::tempdir().map_err(|e| e.to_string())?;
        let library = dir.path().join("read.so");
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let cc = std::env::var("CC").unwrap_or_else(|_| "cc".to_owned());
        let status = Command::new(&cc)
            .args(["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-I"])
            .arg(here.join("../layout/include/domstat"))
            .arg(here.join("c/read.c"))
            .arg("-o")
            .arg(&library)
            .status()
            .map_err(|e| format!("cannot run the C compiler {cc}: {e}"))?;
        if !status.success() {
            return Err(format!("{cc}: {status}"));
        }
        // SAFETY: the library is the one just compiled, which has no initializers.
        let library = unsafe { Library::new(library) }.map_err(|e| e.to_string())?;
        let region = MmapOptions::new().map_raw_read_only(file).map_err(|e| e.to_string())?;
        let word = |at: usize| {
            let mut word = [0; 4];
            file.read_exact_at(&mut word, at as u64).map_err(|e| e.to_string())?;
            Ok::<usize, String>(u32::from_ne_bytes(word) as usize)
        };
        let record = (word(dom::VCPU_OFFS)?, word(dom::VCPU_SIZE)?);
        Ok(Self { library, region, record, running_ns })
    }

    /// The subject of a race.
    pub fn subject(&self) -> Subject<'_> {
        // SAFETY: the symbol is that function, with this signature.
        let read: Symbol<'_, Read> =
            unsafe { self.library.get(b"domstat_bench_read") }.expect("compiled with it");
        Box::new(move |n| {
            // SAFETY: the producer's own geometry: the record lies inside the mapping.
            let record = unsafe { self.region.as_ptr().add(self.record.0) };
            let record = black_box(record).cast::<c_void>().cast();
            // SAFETY: the record is mapped and its writer uses atomics, as this reader does.
            let right = unsafe { read(record, self.record.1, n, self.running_ns) };
            assert_eq!(right, n, "the C reader read something else");
        })
    }
}
