//! Directories that a watcher follows.

use std::time::Duration;

use tokio::sync::mpsc;

use super::*;

/// A running watcher and what it sends.
struct Watching {
    told: mpsc::Receiver<Told>,
    seen: Vec<String>,
    issues: Vec<Issue>,
}

impl Watching {
    fn start(world: &World) -> Self {
        let (sender, told) = mpsc::channel(16);
        tokio::spawn(watch(world.open(), sender));
        Self { told, seen: Vec::new(), issues: Vec::new() }
    }

    /// Takes batches until one brings the last of `expect`, and compares.
    async fn expect(&mut self, expect: &[&str]) {
        while self.seen.last().map(String::as_str) != expect.last().copied() {
            let batch = tokio::time::timeout(Duration::from_secs(5), self.told.recv()).await;
            let batch = batch.unwrap_or_else(|_| panic!("only {:?} of {expect:?}", self.seen)).unwrap().batch;
            self.seen.extend(said(&batch));
            self.issues = batch.issues().to_vec();
        }
        assert_eq!(std::mem::take(&mut self.seen), expect);
    }
}

#[tokio::test]
async fn a_watcher_says_every_kind_of_change() {
    let world = World::new();
    let mut watching = Watching::start(&world);
    watching.expect(&["configured a: a b", "synced a", "synced b"]).await;
    world.write("a/1.yaml", &pod("p", "1"));
    watching.expect(&["+a/default/p 1"]).await;
    world.replace("a/1.yaml", &pod("p", "2"));
    watching.expect(&["+a/default/p 2"]).await;
    world.write("a/new/deep/2.yaml", &pod("q", "1"));
    watching.expect(&["+a/default/q 1"]).await;
    world.write("a/new/deep/2.yaml", &pod("q", "2"));
    watching.expect(&["+a/default/q 2"]).await;
    fs::hard_link(world.path("a/1.yaml"), world.path("b/1.yaml")).unwrap();
    watching.expect(&["+b/default/p 2"]).await;
    world.remove("b/1.yaml");
    watching.expect(&["-b/default/p 2"]).await;
    world.rename("a/new", "outside");
    watching.expect(&["-a/default/q 2"]).await;
    world.rename("outside", "b/inside");
    watching.expect(&["+b/default/q 2"]).await;
    fs::remove_dir_all(world.path("b/inside")).unwrap();
    watching.expect(&["-b/default/q 2"]).await;
    world.write("a/1.yaml", &pod("p", "3"));
    watching.expect(&["+a/default/p 3"]).await;
    assert_eq!(watching.issues, []);
}

#[tokio::test]
async fn a_watcher_follows_the_cluster_set() {
    let world = World::new();
    let mut watching = Watching::start(&world);
    watching.expect(&["configured a: a b", "synced a", "synced b"]).await;
    world.replace("set.yaml", ONLY_A);
    watching.expect(&["configured a: a"]).await;
    fs::remove_dir(world.path("b")).unwrap();
    world.replace("set.yaml", SET);
    watching.expect(&["configured a: a b"]).await;
    world.write("b.new/1.yaml", &pod("p", "1"));
    world.rename("b.new", "b");
    watching.expect(&["+b/default/p 1", "synced b"]).await;
    world.write("b/1.yaml", &pod("p", "2"));
    watching.expect(&["+b/default/p 2"]).await;
    world.rename("b", "b.old");
    world.write("b.new/1.yaml", &pod("p", "3"));
    world.rename("b.new", "b");
    watching.expect(&["+b/default/p 3"]).await;
}

#[tokio::test]
async fn a_watcher_sees_a_config_map_swap_its_version() {
    let world = World::new();
    world.write("a/..v1/1.yaml", &pod("p", "1"));
    world.write("a/..v1/2.yaml", &pod("q", "1"));
    symlink("..v1", world.path("a/..data")).unwrap();
    symlink("..data/1.yaml", world.path("a/1.yaml")).unwrap();
    symlink("..data/2.yaml", world.path("a/2.yaml")).unwrap();
    let mut watching = Watching::start(&world);
    watching.expect(&["configured a: a b", "+a/default/p 1", "+a/default/q 1", "synced a", "synced b"]).await;
    world.write("a/..v2/1.yaml", &pod("p", "2"));
    world.write("a/..v2/2.yaml", &pod("q", "2"));
    symlink("..v2", world.path("a/..data_tmp")).unwrap();
    world.rename("a/..data_tmp", "a/..data");
    watching.expect(&["+a/default/p 2", "+a/default/q 2"]).await;
    fs::remove_dir_all(world.path("a/..v1")).unwrap();
    world.write("b/1.yaml", &pod("r", "1"));
    watching.expect(&["+b/default/r 1"]).await;
}

#[tokio::test]
async fn a_file_is_not_read_while_it_is_written() {
    use std::io::Write;
    let world = World::new();
    let mut watching = Watching::start(&world);
    watching.expect(&["configured a: a b", "synced a", "synced b"]).await;
    let mut file = fs::File::create(world.path("a/1.yaml")).unwrap();
    file.write_all(pod("half", "1").as_bytes()).unwrap();
    file.sync_all().unwrap();
    tokio::time::sleep(Duration::from_millis(60)).await;
    assert!(watching.told.try_recv().is_err());
    file.write_all(pod("whole", "1").as_bytes()).unwrap();
    drop(file);
    watching.expect(&["+a/default/half 1", "+a/default/whole 1"]).await;
}

#[tokio::test]
async fn the_watcher_ends_when_nobody_listens() {
    let world = World::new();
    let (sender, mut batches) = mpsc::channel(1);
    let watcher = tokio::spawn(watch(world.open(), sender));
    batches.recv().await.unwrap();
    drop(batches);
    tokio::time::timeout(Duration::from_secs(5), watcher).await.unwrap().unwrap();
}
