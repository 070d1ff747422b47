//! What cannot be: each case has one message that says what and what to do, and changes nothing.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use aya::maps::{Array, Map, MapData};
use policy_agent::datapath::{Capacities, Datapath, DatapathError, Misfit, uninstall};
use policy_common::table::{ABI_VERSION, Control};
use policy_core::plan::TableState;

use crate::bpffs::{Bpffs, SMALL, TABLES, once_free};
use crate::net::Net;

/// Opens what cannot be opened.
fn refused(bpffs: &Path, capacities: &Capacities) -> DatapathError {
    match once_free(|| Datapath::open(bpffs, capacities)) {
        Ok(_) => panic!("it could be opened"),
        Err(error) => error,
    }
}

fn set_abi(bpffs: &Bpffs, abi: u32) {
    let data = MapData::from_pin(bpffs.pin("control")).expect("pinned");
    let mut control = Array::try_from(Map::from_map_data(data).expect("a map")).expect("an array");
    control.set(0, Control { commit: 4, abi, ..Control::default() }, 0).expect("written");
}

#[test]
fn a_directory_elsewhere_is_no_bpf_file_system() {
    let error = refused(Path::new("/tmp"), &SMALL);
    assert!(matches!(error, DatapathError::NoBpffs { .. }), "{error:?}");
    assert!(error.to_string().contains("mount -t bpf -o mode=0700 bpf /tmp"), "{error}");
    assert!(matches!(uninstall(Path::new("/tmp")), Err(DatapathError::NoBpffs { .. })));
    let error = refused(Path::new("/nowhere/at/all"), &SMALL);
    assert!(matches!(error, DatapathError::Bpffs { .. }), "{error:?}");
}

#[test]
fn a_directory_that_others_can_write_to_is_not_relied_on() {
    let bpffs = Bpffs::new();
    drop(bpffs.open());
    let mode = |directory: &str| std::fs::metadata(bpffs.pin(directory)).expect("made").permissions().mode() & 0o777;
    assert_eq!(["", "links", "programs"].map(mode), [0o700; 3]);
    for directory in ["", "links", "programs"] {
        let set = |mode| std::fs::set_permissions(bpffs.pin(directory), Permissions::from_mode(mode)).expect("set");
        set(0o777);
        let error = refused(bpffs.path(), &SMALL);
        assert!(matches!(error, DatapathError::Exposed { .. }), "{error:?}");
        assert!(error.to_string().contains("others may write to it (its mode is 0777)"), "{error}");
        set(0o755);
    }
    bpffs.open();
    std::os::unix::fs::chown(bpffs.pin("links"), Some(65_534), None).expect("given away");
    let error = refused(bpffs.path(), &SMALL);
    assert!(error.to_string().contains("it belongs to user 65534, and the agent is user 0"), "{error}");
}

#[test]
fn tables_of_another_version_are_left_alone() {
    let bpffs = Bpffs::new();
    drop(bpffs.open());
    set_abi(&bpffs, ABI_VERSION + 1);
    let error = refused(bpffs.path(), &SMALL);
    assert!(matches!(error, DatapathError::Abi { .. }), "{error:?}");
    assert!(error.to_string().contains("policy-agent uninstall"), "{error}");
    assert_eq!(bpffs.names("").len(), TABLES.len() + ["links", "programs"].len(), "nothing is removed");
}

#[test]
fn tables_of_other_capacities_are_left_alone() {
    let bpffs = Bpffs::new();
    drop(bpffs.open());
    let error = refused(bpffs.path(), &Capacities { rules: 8192, ..SMALL });
    let DatapathError::Misfit { path, misfit } = &error else { panic!("{error:?}") };
    assert_eq!((path, misfit), (&bpffs.pin("rules"), &Misfit::Capacity { found: 4096, needed: 8192 }));
    assert!(error.to_string().contains("it has room for 4096 elements, 8192 are configured"), "{error}");
    assert_eq!(bpffs.open().1, TableState::default(), "the old capacities still do");
}

#[test]
fn a_table_that_is_missing_or_another_is_told() {
    let bpffs = Bpffs::new();
    drop(bpffs.open());
    std::fs::remove_file(bpffs.pin("ports")).expect("pinned");
    let misfit = |expected: Misfit| match refused(bpffs.path(), &SMALL) {
        DatapathError::Misfit { path, misfit } => assert_eq!((path, misfit), (bpffs.pin("ports"), expected)),
        error => panic!("{error:?}"),
    };
    misfit(Misfit::Missing);
    MapData::from_pin(bpffs.pin("rules")).expect("pinned").pin(bpffs.pin("ports")).expect("pinned again");
    misfit(Misfit::Shape);
}

#[test]
fn a_first_run_that_was_cut_off_is_begun_anew() {
    let bpffs = Bpffs::new();
    drop(bpffs.open());
    set_abi(&bpffs, 0);
    std::fs::remove_file(bpffs.pin("rules")).expect("pinned");
    assert_eq!(bpffs.open().1, TableState::default());
    assert_eq!(bpffs.open().1, TableState::default(), "and stays usable");
}

#[test]
fn an_interface_that_is_gone_is_told_by_name() {
    let bpffs = Bpffs::new();
    let (mut datapath, _) = bpffs.open();
    let net = Net::new("node");
    let error = net.enter(|| datapath.attach(4_000_000, "veth7")).expect_err("there is none");
    assert_eq!(error.to_string(), "interface veth7 (index 4000000) is gone");
    assert_eq!(bpffs.names("links"), [""; 0]);
}
