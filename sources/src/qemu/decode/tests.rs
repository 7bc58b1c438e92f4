use domstat_layout::Group;
use proptest::prelude::*;
use serde_json::json;

use super::*;

#[test]
fn chains_are_followed_to_their_storage() {
    let stats = |highest: u64| {
        json!({ "rd_operations": 3, "wr_bytes": 9, "wr_highest_offset": highest,
        "failed_rd_operations": 1, "failed_wr_operations": 2, "failed_flush_operations": 4 })
    };
    let reply = json!([
        { "device": "", "qdev": "/machine/peripheral/d/virtio-backend", "node-name": "fmt",
          "stats": stats(0), "parent": { "node-name": "file", "stats": stats(77) },
          "backing": { "node-name": "base", "stats": stats(5), "parent": { "node-name": "bf", "stats": stats(6) } } },
        { "device": "floppy0", "stats": {} },
        { "device": "", "stats": {} },
    ]);
    let devices = devices(&reply).items;
    assert_eq!(devices.len(), 2, "what belongs to no device is no disk");
    let [top, base] = devices[0].layers.as_slice() else { panic!("{devices:?}") };
    assert_eq!((top.node.as_deref(), top.storage.as_deref()), (Some("fmt"), Some("file")));
    assert_eq!((top.highest, base.highest), (Some(77), Some(6)));
    assert_eq!((top.io.rd_req.value(), top.io.errs.value()), (Some(3), Some(7)));
    assert_eq!(top.times, domstat_layout::latest::BlkIoTimes::NOT_PRODUCED);
    assert_eq!(devices[1].layers[0].io, BlkIo::NOT_PRODUCED, "absent is not 0");
}

#[test]
fn filters_are_looked_through_and_are_no_backing_images() {
    let file = |name: &str, highest: u64| json!({ "node-name": name, "stats": { "wr_highest_offset": highest } });
    // QEMU lists the child of a filter twice.
    let filter = |name: &str, child: &Value| json!({ "node-name": name, "stats": { "wr_operations": 0 }, "parent": child, "backing": child });
    let below = filter("prealloc", &file("f", 77));
    let base = json!({ "node-name": "base", "stats": {}, "parent": file("bf", 5) });
    let image = json!({ "node-name": "q", "stats": { "wr_operations": 3 }, "parent": below,
        "backing": filter("cor-on-base", &base) });
    let mut top = filter("throttle", &filter("cor", &image));
    top["qdev"] = json!("/machine/peripheral/d/virtio-backend");
    top["stats"] = json!({ "wr_operations": 9 });
    let devices = devices(&json!([top])).items;
    let [own, backing] = devices[0].layers.as_slice() else { panic!("{devices:?}") };
    assert_eq!((own.node.as_deref(), own.storage.as_deref()), (Some("q"), Some("f")));
    assert_eq!((own.highest, own.io.wr_req.value()), (Some(77), Some(9)), "requests of the device");
    assert_eq!(own.filters, ["throttle", "cor"]);
    assert_eq!((backing.node.as_deref(), backing.storage.as_deref()), (Some("base"), Some("bf")));
}

#[test]
fn lists_are_cut_to_their_limits() {
    let cpus = cpus(&(0..5000).map(|n| json!({ "cpu-index": n })).collect());
    assert_eq!((cpus.items.len(), cpus.omitted), (4096, 904));
    let chain = |n: usize| {
        (0..20).fold(json!({ "node-name": "end", "stats": {} }), |below, depth| {
            json!({ "device": format!("d{n}"), "node-name": format!("n{depth}"), "backing": below })
        })
    };
    let devices = devices(&(0..60).map(chain).collect());
    let images: usize = devices.items.iter().map(|d| d.layers.len()).sum();
    assert_eq!((images, devices.omitted), (1024, 60 * 21 - 1024));
    let most = max_cpus(&json!([{ "vcpus-count": u64::MAX }, { "vcpus-count": 5 }]));
    assert_eq!(most, 4096);
    assert_eq!(text(&json!("x".repeat(5000))), None);
}

#[test]
fn a_job_leads_to_its_nodes_also_below_a_filter() {
    let graph = json!({
        "nodes": [
            { "id": 1, "type": "block-job", "name": "j" }, { "id": 2, "type": "block-driver", "name": "filter" },
            { "id": 3, "type": "block-driver", "name": "disk" }, { "id": 4, "type": "block-driver", "name": "other" },
        ],
        "edges": [{ "parent": 1, "child": 2 }, { "parent": 2, "child": 3 }, { "parent": 9, "child": 4 }],
    });
    let nodes = job_nodes(&graph);
    assert_eq!(nodes["j"], BTreeSet::from(["filter".to_owned(), "disk".to_owned()]));
    assert_eq!(nodes.len(), 1);
}

#[test]
fn a_balloon_that_has_not_reported_says_nothing() {
    let none = u64::MAX;
    let mut memory = Memory::NOT_PRODUCED;
    guest_memory(&json!({ "last-update": 0, "stats": { "stat-free-memory": 5 } }), &mut memory);
    assert_eq!(memory, Memory::NOT_PRODUCED);
    let stats = json!({ "stat-free-memory": 5, "stat-major-faults": 0, "stat-swap-in": none });
    guest_memory(&json!({ "last-update": 1, "stats": stats }), &mut memory);
    assert_eq!(memory.unused_bytes.value(), Some(5));
    assert_eq!(memory.major_faults.value(), Some(0));
    assert_eq!(memory.swap_in_bytes.value(), None);
}

/// Any JSON at all.
fn any_json() -> impl Strategy<Value = Value> {
    let keys = prop_oneof![
        Just("node-name"),
        Just("stats"),
        Just("parent"),
        Just("backing"),
        Just("device"),
        Just("qdev"),
        Just("image"),
        Just("cpu-index"),
        Just("thread-id"),
        Just("nodes"),
        Just("edges"),
        Just("id"),
        Just("child"),
        Just("status"),
        Just("len"),
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        "[a-z/]{0,5}".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 60, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((keys.clone(), inner), 0..6).prop_map(|pairs| {
                pairs.into_iter().map(|(k, v)| (k.to_owned(), v)).collect::<Value>()
            }),
        ]
    })
}

proptest! {
    #[test]
    fn no_reply_makes_it_panic(reply in any_json()) {
        let _ = (cpus(&reply), max_cpus(&reply), devices(&reply), nodes(&reply), jobs(&reply));
        let _ = job_nodes(&reply);
        guest_memory(&reply, &mut Memory::NOT_PRODUCED.clone());
    }
}
