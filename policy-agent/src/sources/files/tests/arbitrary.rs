//! Files of any content, edited in any order.

use proptest::prelude::*;

use super::*;

/// One edit of a file.
fn edit() -> impl Strategy<Value = (usize, Option<String>)> {
    let content = prop_oneof![
        Just("{".to_owned()),
        Just(String::new()),
        proptest::collection::vec((0..4usize, 0..3usize), 1..4).prop_map(|pods| {
            pods.into_iter().map(|(name, uid)| pod(&format!("p{name}"), &uid.to_string())).collect()
        }),
        proptest::collection::vec((0..2usize, 0..2usize, any::<bool>()), 1..3).prop_map(|policies| {
            let spec = |rules: usize, ok: bool| {
                if ok { format!("{{ingress: [{}]}}", "{},".repeat(rules)) } else { "5".into() }
            };
            policies.into_iter().map(|(name, rules, ok)| policy(&format!("n{name}"), &spec(rules, ok))).collect()
        }),
    ];
    (0..4usize, proptest::option::weighted(0.8, content))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn a_refresh_of_what_changed_says_the_same_as_a_look_at_everything(edits in proptest::collection::vec(edit(), 1..12)) {
        const NAMES: [&str; 4] = ["1.yaml", "2.yaml", "x/1.yaml", "x.yaml"];
        let world = World::new();
        fs::create_dir(world.path("a/x")).unwrap();
        let mut refreshed = world.open();
        let mut rescanned = world.open();
        refreshed.rescan();
        rescanned.rescan();
        for (name, content) in edits {
            let path = format!("a/{}", NAMES[name]);
            match content {
                Some(content) => world.write(&path, &content),
                None => drop(fs::remove_file(world.path(&path))),
            }
            let changes = files("a", &[NAMES[name]]);
            prop_assert_eq!(refreshed.refresh(&changes), rescanned.rescan());
        }
    }

    #[test]
    fn arbitrary_files_never_panic_the_loader(content in proptest::collection::vec(any::<u8>(), 0..300), json in any::<bool>()) {
        let world = World::new();
        fs::write(world.path(if json { "a/x.json" } else { "a/x.yaml" }), &content).unwrap();
        let mut source = world.open();
        source.rescan();
        fs::write(world.path("set.yaml"), &content).unwrap();
        source.rescan();
    }
}
