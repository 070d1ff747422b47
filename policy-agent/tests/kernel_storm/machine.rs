//! The committed programs on tables of a test's own, as the agent has them, without interfaces: packets are judged by
//! `BPF_PROG_TEST_RUN`, commits are made by the agent's datapath.

use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, Scope};
use std::time::Duration;

use aya::maps::{Array, HashMap, Map, MapData, PerCpuArray};
use aya::programs::{SchedClassifier, TestRun, TestRunOptions};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use policy_agent::datapath::{Datapath, uninstall};
use policy_common::reason::Reason;
use policy_common::table::{Control, EndpointCounters, REASON_SLOTS};
use policy_core::compile::Subjects;
use policy_core::model::Event;
use policy_core::node::{Attachment, Node};
use policy_core::plan::{Plan, Step};
use policy_core::testing::ClusterSetBuilder;
use policy_lab::BpfFs;

use crate::frames::{Packet, Way};
pub use crate::support::SMALL;
use crate::support::once_free;

/// The interface of the endpoint: loopback, which exists in every network namespace. Nothing is attached to it.
pub const WEB: u32 = 1;
/// The interface by which peers' packets reach the node.
pub const UPLINK: u32 = 77;

/// Lets one storm rage at a time: each needs all CPUs.
pub fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One of the cores that this process may use.
pub struct Core(CpuSet);

/// All of them.
pub fn cores() -> Vec<Core> {
    let usable = sched_getaffinity(Pid::from_raw(0)).expect("the cores of this thread");
    let is_usable = |core: &usize| usable.is_set(*core).unwrap_or_default();
    let only = |core| {
        let mut set = CpuSet::new();
        set.set(core).expect("a core of this machine");
        Core(set)
    };
    (0..CpuSet::count()).filter(is_usable).map(only).collect()
}

impl Core {
    /// Works on this core.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let pinned = || {
            sched_setaffinity(Pid::from_raw(0), &self.0).expect("a core that this process may use");
            work()
        };
        thread::scope(|scope| scope.spawn(pinned).join()).unwrap_or_else(|panic| resume_unwind(panic))
    }
}

/// Makes as many interrupts as sleeping threads can, until it is over: whatever they come between takes longer then.
pub fn interrupt<'scope>(scope: &'scope Scope<'scope, '_>, is_over: &'scope AtomicBool) {
    const SLEEPERS: usize = 24;
    for _ in 0..SLEEPERS {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                thread::sleep(Duration::from_micros(1));
            }
        });
    }
}

/// A node without interfaces.
pub struct Machine {
    /// `None` only while it ends.
    datapath: Option<Datapath>,
    /// What is committed.
    pub node: Node,
    bpffs: BpfFs,
}

impl Machine {
    /// Of a ClusterSet; the endpoint is `web` in cluster `a`. Everything is committed.
    pub fn new(set: &ClusterSetBuilder) -> Self {
        let bpffs = BpfFs::mount().expect("root may mount a BPF file system");
        let (datapath, state) = once_free(|| Datapath::open(bpffs.path(), &SMALL)).expect("a datapath");
        let mut node = Node::new(set.config(), Subjects::All, state, SMALL.limits());
        node.apply(&set.events());
        let web = node.compiler().subjects().keys().find(|key| &*key.name == "web").cloned();
        node.attach(&web.expect("a pod of cluster a"), Attachment { ifindex: WEB, bridge: None });
        let mut machine = Self { datapath: Some(datapath), node, bpffs };
        machine.commit(&[]);
        machine
    }

    /// What is to be done for these changes. It must be carried out.
    pub fn plan(&mut self, events: &[Event]) -> Plan {
        self.node.apply(events);
        self.node.plan().expect("it fits")
    }

    /// Commits changes.
    pub fn commit(&mut self, events: &[Event]) {
        let plan = self.plan(events);
        self.execute(&plan);
    }

    /// Carries out a plan of [`Self::plan`].
    pub fn execute(&mut self, plan: &Plan) {
        let node = &mut self.node;
        let datapath = self.datapath.as_mut().expect("open");
        let executed = datapath.execute(plan, |step| node.stepped(step));
        executed.unwrap_or_else(|error| panic!("{error}: {error:?}"));
    }

    /// Makes writes of which the compiler knows nothing.
    pub fn write(&mut self, steps: Vec<Step>) {
        let executed = self.datapath.as_mut().expect("open").execute(&Plan { steps }, |_| {});
        executed.unwrap_or_else(|error| panic!("{error}: {error:?}"));
    }

    /// Lets so many seconds pass.
    pub fn tick(&mut self, seconds: u32) {
        self.datapath.as_mut().expect("open").tick(seconds);
    }

    /// Sweeps the next connections that nobody uses; says how many.
    pub fn sweep(&mut self) -> usize {
        self.datapath.as_mut().expect("open").sweep_flows().expect("swept").removed
    }

    /// Somebody who lets packets pass through the programs; there may be one in each thread.
    pub fn judge(&self) -> Judge {
        let program = |name: &str| {
            SchedClassifier::from_pin(self.pin("programs").join(name)).expect("the datapath pins its programs")
        };
        Judge {
            from_pod: program("from_pod"),
            to_pod: program("to_pod"),
            control: Array::try_from(self.map("control")).expect("an array"),
            counters: PerCpuArray::try_from(self.map("counters")).expect("an array"),
            element: self.node.tables().endpoints[&WEB].counters,
        }
    }

    /// A table of connections.
    pub fn flows<K: aya::Pod, V: aya::Pod>(&self, name: &str) -> HashMap<MapData, K, V> {
        HashMap::try_from(self.map(name)).expect("a hash map")
    }

    /// How many connections were ever noted as cut, or zero since none is.
    pub fn cuts(&self) -> u32 {
        let control: Array<_, Control> = Array::try_from(self.map("control")).expect("an array");
        control.get(&0, 0).expect("its element").cuts
    }

    fn map(&self, name: &str) -> Map {
        let data = MapData::from_pin(self.pin(name)).expect("the datapath pins its tables");
        Map::from_map_data(data).expect("a map")
    }

    fn pin(&self, name: &str) -> PathBuf {
        pin(self.bpffs.path(), name)
    }
}

fn pin(bpffs: &Path, name: &str) -> PathBuf {
    bpffs.join("crosswall").join(name)
}

impl Drop for Machine {
    fn drop(&mut self) {
        drop(self.datapath.take());
        let _removed = once_free(|| uninstall(self.bpffs.path()));
    }
}

/// The reasons for which the packets of these tests may pass.
const PASSES: [Reason; 3] = [Reason::Rule, Reason::NotIsolated, Reason::Established];

/// Lets packets pass through the programs.
pub struct Judge {
    from_pod: SchedClassifier,
    to_pod: SchedClassifier,
    control: Array<MapData, Control>,
    counters: PerCpuArray<MapData, EndpointCounters>,
    element: u32,
}

impl Judge {
    /// The commit in force.
    pub fn commit(&self) -> u64 {
        self.control.get(&0, 0).expect("an array has its elements").commit
    }

    /// Whether a packet passes.
    pub fn passes(&mut self, packet: &Packet) -> bool {
        self.run(packet, 1)
    }

    /// Lets a packet pass through the programs so many times; how often it passed, if nobody else sends packets this way.
    pub fn passes_of(&mut self, packet: &Packet, times: u32) -> u64 {
        let before = self.passed(packet.way);
        self.run(packet, times);
        self.passed(packet.way) - before
    }

    /// How many packets have passed so far.
    pub fn passed(&self, way: Way) -> u64 {
        let counted = self.counted(way);
        PASSES.map(|reason| counted[reason as usize]).iter().sum()
    }

    /// The same; for what reasons it passed or not.
    pub fn judged(&mut self, packet: &Packet, times: u32) -> [u64; REASON_SLOTS] {
        let before = self.counted(packet.way);
        self.run(packet, times);
        let after = self.counted(packet.way);
        std::array::from_fn(|reason| after[reason] - before[reason])
    }

    /// Lets a packet pass through the programs so many times; whether it passed the last time.
    pub fn run(&mut self, packet: &Packet, times: u32) -> bool {
        let (program, arrival) = match packet.way {
            Way::Out => (&mut self.from_pod, WEB),
            Way::In => (&mut self.to_pod, UPLINK),
        };
        run(program, &packet.frame, arrival, times)
    }

    /// How many packets there were, by reason.
    fn counted(&self, way: Way) -> [u64; REASON_SLOTS] {
        let cpus = self.counters.get(&self.element, 0).expect("the endpoint's element");
        std::array::from_fn(|reason| {
            let packets = |cpu: &EndpointCounters| match way {
                Way::Out => cpu.from_pod[reason].packets,
                Way::In => cpu.to_pod[reason].packets,
            };
            cpus.iter().map(packets).sum()
        })
    }
}

/// Runs a program on a packet; whether it said "go on" the last time.
pub fn run(program: &mut SchedClassifier, frame: &[u8], arrival: u32, times: u32) -> bool {
    let mut context = [0u8; 192];
    // The offsets of `struct __sk_buff` (include/uapi/linux/bpf.h).
    context[36..40].copy_from_slice(&arrival.to_ne_bytes());
    context[40..44].copy_from_slice(&WEB.to_ne_bytes());
    let options =
        TestRunOptions { data_in: Some(frame), ctx_in: Some(&context), repeat: times, ..TestRunOptions::default() };
    let result = program.test_run(options).expect("BPF_PROG_TEST_RUN");
    match result.return_value.cast_signed() {
        -1 => true,
        2 => false,
        other => panic!("a program returned {other}"),
    }
}
