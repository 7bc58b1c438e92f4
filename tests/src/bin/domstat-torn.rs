//! Hunts for torn reads: one process writes groups whose words are all computed from one number,
//! another reads them in every form and checks each value.
//!
//! ```text
//! domstat-torn [--reads N]    read N values next to a writer that never rests (default 10000000)
//! domstat-torn --kill N       kill a writer N times and look at what it left
//! domstat-torn --no-check     the hunt's own test: read without the protocol, which must tear
//!              [--dir DIR]    where the shared files lie (default /dev/shm)
//!              [--writer PROGRAM]  the writing process is this program, such as tests/c/torn.c
//! ```
//!
//! Exit status: 0 if all is well, 1 if a value was torn (or, without the protocol, none was), 2 if
//! the hunt could not be held.
#![allow(unsafe_code)]

use std::error::Error;
use std::ffi::{c_int, c_void};
use std::fs::{self, File};
use std::hash::{BuildHasher, RandomState};
use std::hint::spin_loop;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::ptr::{self, NonNull};
use std::thread;
use std::time::{Duration, Instant};

use domstat_consumer::{Patience, Reading, Region, Snapshot};
use domstat_layout::latest::Runstate;
use domstat_layout::{
    CopyWidth, GroupSpan, Ns, ReadGroup, ReadMem, ReadTwins, TwinSpans, WriteMem, WriteTwins,
};
use domstat_producer::RegionBuilder;
use domstat_tests::runstate;

/// Bytes of a raw group, and words of its payload.
const GROUP_SIZE: usize = 512;
const PAYLOAD: usize = (GROUP_SIZE - 16) / 8;
/// Where in the raw file the groups lie, and the number that was last written to all of them.
const SINGLE: usize = 0;
const FIRST: usize = GROUP_SIZE;
const SECOND: usize = 2 * GROUP_SIZE;
const WRITTEN: usize = 3 * GROUP_SIZE;
/// A group and its twin, as the producer writes them and the consumer reads them.
const TWINS: TwinSpans = TwinSpans {
    first: GroupSpan { offset: FIRST, size: GROUP_SIZE, mask: 0b01 },
    second: Some(GroupSpan { offset: SECOND, size: GROUP_SIZE, mask: 0b10 }),
};
const RAW_LEN: usize = 4096;

/// Longest time without a single read that comes through.
const STALLED: Duration = Duration::from_secs(10);

type Fallible<T> = Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("domstat-torn: {error}");
            ExitCode::from(2)
        }
    }
}

fn run() -> Fallible<bool> {
    let mut reads = 10_000_000;
    let mut kills = None;
    let mut check = true;
    let mut dir = PathBuf::from("/dev/shm");
    let mut program = None;
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value"));
        match arg.as_str() {
            "--reads" => reads = value()?.parse()?,
            "--kill" => kills = Some(value()?.parse()?),
            "--dir" => dir = value()?.into(),
            "--writer" => program = Some(value()?.into()),
            "--no-check" => check = false,
            // What the hunt starts itself as.
            "--write" => return write(Path::new(&value()?), true),
            "--write-raw" => return write(Path::new(&value()?), false),
            _ => return Err(format!("unknown argument {arg}").into()),
        }
    }
    let program = program.map_or_else(std::env::current_exe, Ok)?;
    let place = Place::create(&dir, program)?;
    match kills {
        Some(kills) => kill(&place, kills),
        None if check => hunt(&place, reads),
        None => hunt_without_protocol(&place),
    }
}

/// Word `index` of the payload that says `n`: no two words are alike.
fn word(n: u64, index: usize) -> u64 {
    n.wrapping_mul(2 * index as u64 + 3)
}

fn payload(n: u64) -> [u64; PAYLOAD] {
    std::array::from_fn(|index| word(n, index))
}

/// A directory with the files that both processes map; removed in the end.
struct Place {
    dir: PathBuf,
    /// The program that writes.
    writer: PathBuf,
}

impl Place {
    fn create(dir: &Path, writer: PathBuf) -> io::Result<Self> {
        let dir = dir.join(format!("domstat-torn-{}", std::process::id()));
        fs::create_dir(&dir)?;
        let place = Self { dir, writer };
        File::create_new(raw(&place.dir))?.set_len(RAW_LEN as u64)?;
        Ok(place)
    }

    fn read_raw(&self) -> io::Result<ReadMem<'static>> {
        let base = map(&File::open(raw(&self.dir))?, PROT_READ)?;
        // SAFETY: mapped by `map` for good, readable, RAW_LEN long as is the file, page-aligned;
        // this process never writes it.
        Ok(unsafe { ReadMem::new(base, RAW_LEN) })
    }

    /// Starts a writer and waits for what it writes first.
    fn write(&self, how: &str, mem: ReadMem<'_>) -> Fallible<Writer> {
        let before = written(mem)?;
        let child = Command::new(&self.writer)
            .arg(how)
            .arg(&self.dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()?;
        let mut writer = Writer(child);
        let since = Instant::now();
        while written(mem)? == before {
            writer.is_alive()?;
            if since.elapsed() > STALLED {
                return Err("the writer does not write".into());
            }
            thread::yield_now();
        }
        Ok(writer)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn raw(dir: &Path) -> PathBuf {
    dir.join("raw")
}

fn region(dir: &Path) -> PathBuf {
    dir.join("region")
}

const PROT_READ: c_int = 1;
const PROT_WRITE: c_int = 2;
const MAP_SHARED: c_int = 1;

/// Maps the raw file, for as long as the process lives.
fn map(file: &File, protection: c_int) -> io::Result<NonNull<u8>> {
    // SAFETY: the C library's function, as Linux declares it on 64-bit systems.
    unsafe extern "C" {
        fn mmap(
            addr: *mut c_void,
            len: usize,
            protection: c_int,
            flags: c_int,
            fd: c_int,
            offset: i64,
        ) -> *mut c_void;
    }
    // SAFETY: a new mapping at an address of the kernel's choice touches no memory in use.
    let base =
        unsafe { mmap(ptr::null_mut(), RAW_LEN, protection, MAP_SHARED, file.as_raw_fd(), 0) };
    if base.addr() == usize::MAX {
        return Err(io::Error::last_os_error());
    }
    NonNull::new(base.cast()).ok_or_else(|| io::Error::other("mapped at null"))
}

/// The writing process; killed when it is dropped.
struct Writer(Child);

impl Writer {
    fn is_alive(&mut self) -> Fallible<()> {
        match self.0.try_wait()? {
            None => Ok(()),
            Some(status) => Err(format!("the writer has exited: {status}").into()),
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The writing process: until it is killed, or its parent has exited.
fn write(dir: &Path, typed: bool) -> Fallible<bool> {
    let parent = std::os::unix::process::parent_id();
    let file = File::options().read(true).write(true).open(raw(dir))?;
    let base = map(&file, PROT_READ | PROT_WRITE)?;
    // SAFETY: mapped by `map` for good, readable and writable, RAW_LEN long as is the file,
    // page-aligned; this process reaches it through `mem` only.
    let mem = unsafe { WriteMem::new(base, RAW_LEN) };
    let group = |offset| mem.group(offset, GROUP_SIZE).ok_or("the raw file is too short");
    let mut single = group(SINGLE)?;
    let mut twins: WriteTwins<'_> = mem.twins(TWINS).ok_or("the raw file is too short")?;
    let mut n = written(mem.as_read())?;
    // The region vanishes with its producer.
    let mut producer = None;
    if typed {
        let created = RegionBuilder::new("torn").create_file(region(dir))?;
        let mut vcpu = created.vcpus.into_iter().next().ok_or("no vCPU")?;
        vcpu.write(&runstate(n), Ns(n));
        producer = Some((created.unpublished.publish()?, vcpu));
    }
    loop {
        n += 1;
        let words = payload(n);
        single.write(n, &words);
        twins.write(n, &words);
        if let Some((_, vcpu)) = &mut producer {
            vcpu.write(&runstate(n), Ns(n));
        }
        let _ = mem.store_u64(WRITTEN, n);
        // Readers meet a writer that pauses for a while and one that does not.
        for _ in 0..if typed { n % 8 } else { 0 } {
            spin_loop();
        }
        if n.is_multiple_of(1 << 16) && std::os::unix::process::parent_id() != parent {
            return Ok(true);
        }
    }
}

fn written(mem: ReadMem<'_>) -> Fallible<u64> {
    Ok(mem.load_u64(WRITTEN).ok_or("the raw file is too short")?)
}

/// What one attempt to read gave.
enum Found {
    Whole { n: u64 },
    Torn,
    Busy,
}

/// Holds a raw group against the number that it says it was written with.
fn judge(n: u64, words: &[u64; PAYLOAD]) -> Found {
    let whole = words.iter().enumerate().all(|(index, found)| *found == word(n, index));
    if whole { Found::Whole { n } } else { Found::Torn }
}

fn judge_reading<E>(reading: Result<Reading<domstat_consumer::Sample<Runstate>>, E>) -> Found {
    match reading {
        Ok(Reading::Active(sample)) if sample.group == runstate(sample.updated.0) => {
            Found::Whole { n: sample.updated.0 }
        }
        Ok(_) => Found::Torn,
        Err(_) => Found::Busy,
    }
}

#[derive(Default)]
struct Tally {
    reads: u64,
    /// Reads that found another number than the read before: the writer was at work.
    fresh: u64,
    retries: u64,
    torn: u64,
    last: u64,
}

impl Tally {
    /// Reads `reads` values, each as often as it takes.
    fn read(
        &mut self,
        reads: u64,
        writer: &mut Writer,
        attempt: &mut dyn FnMut() -> Found,
    ) -> Fallible<()> {
        let mut busy_since = None;
        let mut busy = 0u32;
        let end = self.reads + reads;
        while self.reads < end {
            match attempt() {
                Found::Whole { n } => {
                    self.fresh += u64::from(n != self.last);
                    // Going back to an older number counts as torn as well.
                    self.torn += u64::from(n < self.last);
                    self.last = n;
                }
                Found::Torn => self.torn += 1,
                Found::Busy => {
                    self.retries += 1;
                    busy += 1;
                    spin_loop();
                    if busy.is_multiple_of(1024) {
                        writer.is_alive()?;
                        if busy_since.get_or_insert_with(Instant::now).elapsed() > STALLED {
                            return Err("no read comes through".into());
                        }
                        thread::yield_now();
                    }
                    continue;
                }
            }
            (busy, busy_since) = (0, None);
            self.reads += 1;
        }
        Ok(())
    }
}

/// How a case is read.
const CASES: [&str; 4] = ["single", "twins", "runstate", "snapshot"];

/// A case goes on until one read in so many was fresh, though not for longer than this: reads
/// next to a writer that has no CPU prove little.
const FRESH: u64 = 20;
const WAIT_FOR_FRESH: Duration = Duration::from_secs(5);

fn hunt(place: &Place, reads: u64) -> Fallible<bool> {
    let mem = place.read_raw()?;
    let mut writer = place.write("--write", mem)?;
    let (mut total, begin) = (Tally::default(), Instant::now());
    let cases = CopyWidth::all().count() * CASES.len();
    let share = reads.div_ceil(cases as u64);
    println!("form     group            reads         fresh       retries  torn      reads/s");
    for form in CopyWidth::all() {
        for case in CASES {
            let since = Instant::now();
            let mut told = since;
            let mut tally = Tally::default();
            let mut attempt = attempts(case, place, mem, form)?;
            while tally.reads < share
                || (tally.fresh < share / FRESH && since.elapsed() < WAIT_FOR_FRESH)
            {
                tally.read(10_000, &mut writer, &mut *attempt)?;
                if told.elapsed() > Duration::from_secs(5) {
                    told = Instant::now();
                    eprintln!("{} {case}: {} of {share} reads", form.name(), tally.reads);
                }
            }
            print(form.name(), case, &tally, since);
            total.reads += tally.reads;
            total.fresh += tally.fresh;
            total.retries += tally.retries;
            total.torn += tally.torn;
        }
    }
    writer.is_alive()?;
    print("all", "", &total, begin);
    println!("writes = {}, torn = {}", written(mem)?, total.torn);
    if total.fresh < reads / 1000 {
        return Err("reader and writer hardly met: are there two CPUs?".into());
    }
    Ok(total.torn == 0)
}

fn print(form: &str, case: &str, tally: &Tally, since: Instant) {
    let Tally { reads, fresh, retries, torn, .. } = tally;
    let rate = *reads as f64 / since.elapsed().as_secs_f64();
    println!("{form:8} {case:8} {reads:13} {fresh:13} {retries:13} {torn:5} {rate:12.0}");
}

/// One attempt after the other to read a case.
fn attempts<'a>(
    case: &str,
    place: &Place,
    mem: ReadMem<'a>,
    form: CopyWidth,
) -> Fallible<Box<dyn FnMut() -> Found + 'a>> {
    let mut words = [0; PAYLOAD];
    Ok(match case {
        "single" => {
            let single = group(mem, form, SINGLE)?;
            Box::new(move || match single.try_read(&mut words, || ()) {
                Ok((_, n, ())) => judge(n, &words),
                Err(_) => Found::Busy,
            })
        }
        "twins" => {
            let mem = mem.with_form(form);
            twins(&mem)?;
            Box::new(move || {
                match twins(&mem).map(|twins| twins.try_read(&mut words, |_| Some(()))) {
                    Ok(Ok(Some((_, n, ())))) => judge(n, &words),
                    Ok(Err(_)) => Found::Busy,
                    Ok(Ok(None)) | Err(_) => Found::Torn,
                }
            })
        }
        _ => {
            let patience = Patience { spins: 0, yielding: Duration::ZERO };
            let region = Region::open(region(&place.dir))?.with_form(form).with_patience(patience);
            let mut snapshot = (case == "snapshot").then(Snapshot::new);
            Box::new(move || match &mut snapshot {
                None => region.vcpu(0).map_or(Found::Torn, |vcpu| judge_reading(vcpu.read())),
                Some(snapshot) => {
                    region.snapshot(snapshot);
                    snapshot.vcpu(0).map_or(Found::Torn, |vcpu| judge_reading(vcpu.vcpu_group()))
                }
            })
        }
    })
}

fn group(mem: ReadMem<'_>, form: CopyWidth, offset: usize) -> Fallible<ReadGroup<'_>> {
    Ok(mem.with_form(form).group(offset, GROUP_SIZE).ok_or("the raw file is too short")?)
}

fn twins<'a>(mem: &'a ReadMem<'a>) -> Fallible<ReadTwins<'a>> {
    Ok(mem.twins(TWINS).ok_or("the raw file is too short")?)
}

/// Reads without looking at `seq`, which tears, and shows that the hunt would notice.
fn hunt_without_protocol(place: &Place) -> Fallible<bool> {
    let mem = place.read_raw()?;
    let mut writer = place.write("--write", mem)?;
    let mut all_tear = true;
    for form in CopyWidth::all() {
        let mem = mem.with_form(form);
        let (since, mut first) = (Instant::now(), None);
        let mut tally = Tally::default();
        // What lies between `updated_ns` and the end of the group.
        let mut words = [0; PAYLOAD + 1];
        while since.elapsed() < Duration::from_millis(500)
            || (tally.torn == 0 && since.elapsed() < STALLED)
        {
            tally.read(1000, &mut writer, &mut || {
                let [n, payload @ ..] = &mut words;
                let _ = mem.load_words(SINGLE + 8, std::slice::from_mut(n));
                let _ = mem.load_words(SINGLE + 16, payload);
                judge(*n, payload)
            })?;
            if tally.torn > 0 {
                first.get_or_insert_with(|| since.elapsed());
            }
        }
        let Tally { reads, torn, .. } = tally;
        let after =
            first.map_or("none".to_owned(), |first| format!("the first within {first:.1?}"));
        println!("{} without the protocol: {torn} of {reads} reads torn, {after}", form.name());
        all_tear &= torn > 0;
    }
    Ok(all_tear)
}

/// Kills a writer at moments that nobody chose, and looks at what it left.
fn kill(place: &Place, kills: u64) -> Fallible<bool> {
    let mem = place.read_raw()?;
    let random = RandomState::new();
    let forms: Vec<CopyWidth> = CopyWidth::all().collect();
    let (mut torn, mut lost) = (0u64, 0u64);
    // How often the writer was met in each group.
    let mut busy = [0u64; 3];
    for (i, form) in (0..kills).zip(forms.into_iter().cycle()) {
        let writer = place.write("--write-raw", mem)?;
        let moment = Duration::from_nanos(random.hash_one(i) % 300_000);
        let since = Instant::now();
        while since.elapsed() < moment {
            spin_loop();
        }
        // Killed, and waited for.
        drop(writer);
        let last = written(mem)?;
        let mut words = [0; PAYLOAD];
        for (busy, offset) in busy.iter_mut().zip([SINGLE, FIRST, SECOND]) {
            match group(mem, form, offset)?.try_read(&mut words, || ()) {
                Ok((_, n, ())) => {
                    // Whole, and either what was written last or what was being written.
                    let known = n == last || n == last + 1;
                    torn += u64::from(!known || matches!(judge(n, &words), Found::Torn));
                }
                Err(_) => *busy += 1,
            }
        }
        let mem = mem.with_form(form);
        let read = twins(&mem)?.try_read(&mut words, |_| Some(()));
        lost += u64::from(!matches!(read, Ok(Some(_))));
        if (i + 1).is_multiple_of(1000) {
            eprintln!("{} of {kills} kills", i + 1);
        }
    }
    let [single, first, second] = busy;
    println!(
        "kills = {kills}, left in mid-update: single {single}, first twin {first}, second twin \
         {second}; both twins lost = {lost}, torn = {torn}"
    );
    Ok(torn == 0 && lost == 0)
}
