//! The datapath against the real kernel: what plans write is what is read back, whoever comes and goes.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use policy_agent::datapath::{Capacities, Datapath, uninstall};
use policy_core::compile::Subjects;
use policy_core::node::{Attachment, Node};
use policy_core::plan::TableState;
use policy_core::testing::event_sequences;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, TestRunner};

const SMALL: Capacities =
    Capacities { endpoints: 64, local: 256, addresses: 1024, prefixes: 256, rules: 4096, ports: 1024, flows: 256 };

/// A directory of its own on the machine's BPF file system, with nothing left in it afterwards.
struct Bpffs(PathBuf);

impl Bpffs {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = PathBuf::from(format!("/sys/fs/bpf/cw-test-{}-{number}", std::process::id()));
        std::fs::create_dir(&path).expect("root, and a BPF file system at /sys/fs/bpf");
        Self(path)
    }

    fn open(&self) -> (Datapath, TableState) {
        Datapath::open(&self.0, &SMALL).unwrap_or_else(|error| panic!("{error}: {error:?}"))
    }

    fn names(&self, directory: &str) -> Vec<String> {
        let path = self.0.join("crosswall").join(directory);
        let Ok(entries) = std::fs::read_dir(path) else { return Vec::new() };
        let mut names: Vec<_> =
            entries.map(|entry| entry.expect("listed").file_name().into_string().expect("UTF-8")).collect();
        names.sort();
        names
    }
}

impl Drop for Bpffs {
    fn drop(&mut self) {
        let _removed = uninstall(&self.0);
        let _removed = std::fs::remove_dir(&self.0);
    }
}

#[test]
fn a_first_run_begins_with_empty_tables_and_pins_everything() {
    let bpffs = Bpffs::new();
    let (_datapath, state) = bpffs.open();
    assert_eq!(state, TableState::default());
    let tables = [
        "control",
        "counters",
        "endpoints",
        "flows_v4",
        "flows_v6",
        "ident_v4",
        "ident_v6",
        "links",
        "local_v4",
        "local_v6",
        "nets_v4",
        "nets_v6",
        "ports",
        "programs",
        "rules",
    ];
    assert_eq!(bpffs.names(""), tables);
    assert_eq!(bpffs.names("programs"), ["from_pod", "to_pod"]);
}

/// Carries out the plan of what has happened.
fn commit(node: &mut Node, datapath: &mut Datapath) {
    let plan = node.plan().expect("there are no limits");
    datapath.execute(&plan, |step| node.stepped(step)).unwrap_or_else(|error| panic!("{error}: {error:?}"));
}

#[test]
fn whatever_is_committed_is_read_back_by_this_run_and_by_the_next() {
    let bpffs = Bpffs::new();
    let mut runner = TestRunner::new_with_rng(
        Config::default(),
        proptest::test_runner::TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha),
    );
    let mut elements = 0;
    let (mut datapath, mut state) = bpffs.open();
    for round in 0..12 {
        let history = event_sequences(20).new_tree(&mut runner).expect("a history").current();
        let config = history.batches.iter().flatten().find_map(|event| match event {
            policy_core::model::Event::Configured(config) => Some(config.clone()),
            _ => None,
        });
        // Each round goes on from what the last one left, as a restarted agent does.
        let mut node = Node::new(config.expect("configured"), Subjects::All, state.clone(), SMALL.limits());
        for batch in &history.batches {
            node.apply(batch);
            let keys: Vec<_> = node.detached().map(|pod| pod.key.clone()).collect();
            for (ifindex, key) in (5000 + 100 * round..).zip(keys) {
                node.attach(&key, Attachment { ifindex, bridge: Some(9) });
            }
            commit(&mut node, &mut datapath);
            state = datapath.read().expect("the tables can be read");
            assert_eq!(&state, node.tables());
            elements = elements.max(state.rules.len() + state.idents.len() + state.nets.len() + state.ports.len());
        }
        drop(datapath);
        let (reopened, found) = bpffs.open();
        assert_eq!(found, state);
        datapath = reopened;
    }
    assert!(elements > 10, "the histories came to {elements} elements at most");
}
