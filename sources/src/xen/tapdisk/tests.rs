use super::*;

fn bytes(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

fn counters(layout: Layout, words: &[u64]) -> Counters {
    Counters::parse(layout, &bytes(words)).unwrap()
}

#[test]
fn fields_lie_where_blktap_has_them() {
    let metrics = counters(Layout::Metrics, &[1, 8, 16, 24, 32, 40, 48, 56, 64, 72, 80, 0]);
    let expected = Counters {
        layout: Layout::Metrics,
        oo_req: 8,
        rd_submitted: 16,
        rd_completed: Some(24),
        rd_sectors: 32,
        rd_usecs: Some(40),
        wr_submitted: 48,
        wr_completed: Some(56),
        wr_sectors: 64,
        wr_usecs: Some(72),
        io_errors: Some(80),
    };
    assert_eq!(metrics, expected);
    let words: Vec<u64> = (0..14).map(|at| at * 8).collect();
    let blkback = counters(Layout::Blkback, &words);
    let expected = Counters {
        layout: Layout::Blkback,
        oo_req: 16,
        rd_submitted: 24,
        rd_completed: Some(32),
        rd_sectors: 40,
        rd_usecs: Some(48),
        wr_submitted: 64,
        wr_completed: Some(72),
        wr_sectors: 80,
        wr_usecs: Some(88),
        io_errors: None,
    };
    assert_eq!(blkback, expected);
}

#[test]
fn what_is_not_such_a_structure_is_refused() {
    for layout in [Layout::Metrics, Layout::Blkback] {
        let short = Counters::parse(layout, &vec![1; layout.size() - 1]).unwrap_err();
        assert!(short.contains(&format!("writes {}", layout.size())), "{short}");
    }
    let other = Counters::parse(Layout::Metrics, &bytes(&[2; 12])).unwrap_err();
    assert!(other.contains("version 2"), "{other}");
    // A count below zero is absent, not very large.
    let negative =
        counters(Layout::Blkback, &[0, 0, 0, 1, u64::MAX, 0, u64::MAX, 0, 1, 1, 0, 5, 0, 0]);
    assert_eq!((negative.rd_completed, negative.rd_usecs), (None, None));
    assert_eq!((negative.wr_completed, negative.wr_usecs), (Some(1), Some(5)));
}

#[test]
fn rules_find_what_no_tapdisk_writes() {
    let good = [1, 0, 10, 9, 80, 500, 4, 4, 32, 90, 0, 0];
    let with = |change: &[(usize, u64)]| {
        let mut words = good;
        change.iter().for_each(|(at, value)| words[*at] = *value);
        counters(Layout::Metrics, &words)
    };
    let broken = |change: &[(usize, u64)]| with(change).broken_rules(None);
    let one = |rule, found: &str| vec![(rule, found.to_owned())];
    assert_eq!(broken(&[]), []);
    assert_eq!(broken(&[(3, 11)]), [], "read between two words");
    assert_eq!(broken(&[(3, 12)]), one(Rule::Completed, "reads: 12 completed of 10 submitted"));
    assert_eq!(broken(&[(7, 6)]), one(Rule::Completed, "writes: 6 completed of 4 submitted"));
    let sectors = one(Rule::Sectors, "reads: 4096 sectors and no request");
    assert_eq!(broken(&[(2, 0), (3, 0), (4, 4096), (5, 0)]), sectors);
    assert_eq!(broken(&[(7, 0)]), one(Rule::Times, "writes: 90 us and none completed"));
    // Times may go back with the clock, counts may not.
    let later = with(&[(2, 12), (3, 12), (5, 400)]);
    assert_eq!(later.broken_rules(Some(&with(&[]))), []);
    let back = one(Rule::Monotonic, "wr_sectors: 31 after 32");
    assert_eq!(with(&[(8, 31)]).broken_rules(Some(&with(&[]))), back);
}

#[test]
fn only_paths_of_tapdisk_are_its_files() {
    let layout = |path: &str| layout_of(Path::new(path));
    assert_eq!(layout("/dev/shm/td3-4711/vbd-1-51712"), Some(Layout::Metrics));
    assert_eq!(layout("./vbd3-1-51712/statistics"), Some(Layout::Blkback));
    for other in [
        "vbd-1-51712",
        "/dev/shm/td3-1/vdi-1-2",
        "td3-1/vbd-1",
        "td3-1/vbd-1-2-3",
        "vbd3-1-x/statistics",
        "vbd3-1-2/io_ring",
        "web1.domstat",
        "",
        "/",
    ] {
        assert_eq!(layout(other), None, "{other}");
    }
}

#[test]
fn files_of_others_and_links_are_not_opened() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("statistics");
    std::fs::write(&path, bytes(&[0; 14])).unwrap();
    let open = |path: &Path, ours| Statistics::open(path, Layout::Blkback, ours);
    assert!(open(&path, |_| false).is_err(), "of another user");
    let statistics = open(&path, |_| true).unwrap();
    assert_eq!(statistics.read().unwrap().rd_submitted, 0);
    assert!(statistics.is_current(&path));
    let link = root.path().join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    assert!(open(&link, |_| true).is_err(), "a link");
    assert!(open(root.path(), |_| true).is_err(), "a directory");
    // Cut off while it is open; made again.
    std::fs::write(&path, "short").unwrap();
    assert!(statistics.read().is_err());
    std::fs::write(root.path().join("new"), bytes(&[0; 14])).unwrap();
    std::fs::rename(root.path().join("new"), &path).unwrap();
    assert!(!statistics.is_current(&path));
}
