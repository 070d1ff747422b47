//! Kills, changes and starts, at moments that look random.

use std::io::{IsTerminal as _, Write as _};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use policy_lab::traffic::probe::{Probe, Timing};
use policy_lab::{Agent, AgentOptions, Lab};

use crate::choices::Choices;
use crate::options::Options;
use crate::report::{Report, Spans};
use crate::tables::Look;
use crate::traffic::{CutConnections, Seen, Traffic, forbidden, rehearse};
use crate::world::{NODE, STRANGER, UDP, WEB, World, lab};

/// How long the agent may take until the last change is in force.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often somebody is told how far it is, where lines stay.
const TOLD: Duration = Duration::from_secs(5);

/// When the agent is killed.
#[derive(Clone, Copy)]
enum Moment {
    /// At some time of its start, whatever it does then.
    Starting,
    /// Soon after a change, when it has caught up with all before.
    Changing,
}

/// Soaks a lab, as long as nothing is wrong.
pub fn soak(options: &Options) -> Report {
    let lab = lab();
    let agents = lab.start_agents(&AgentOptions::new(env!("CARGO_BIN_EXE_policy-agent"))).expect("the agents start");
    agents.iter().for_each(enforces);
    let mut cut = CutConnections::open(&lab);
    let forbidden = forbidden(&cut);
    rehearse(&lab, &forbidden);
    let mut soak = Soak::new(&lab, agents, options);
    soak.change();
    let isolated = lab.settle(&[Probe::udp(STRANGER, WEB, UDP)], |_| false, PATIENCE).expect("it can be sent");
    isolated.expect("the first policy");
    for _ in 0..5 {
        soak.change();
        soak.converge();
    }
    assert_eq!(soak.done.failure, None);
    assert_eq!(cut.alive(), 0, "the policies cut these connections");
    soak.first_commit = Look::at(soak.agent.bpffs()).commit;
    let traffic = Traffic::start(&lab, &forbidden);
    let begin = Instant::now();
    while soak.done.killed < options.kills && soak.done.failure.is_none() && !soak.is_violated {
        soak.kill_once(options, begin);
        soak.tell(&traffic.seen(), options, begin);
    }
    soak.converge();
    soak.done.commits = Look::at(soak.agent.bpffs()).commit - soak.first_commit;
    let took = begin.elapsed();
    let alive = cut.alive();
    Report::new(&soak.done, &traffic.stop(), alive, took)
}

/// Returns once an agent enforces: before that all traffic passes.
fn enforces(agent: &Agent) {
    let start = Instant::now();
    loop {
        let mut policyctl = Command::new(env!("CARGO_BIN_EXE_policyctl"));
        policyctl.args(["status", "-o", "json", "--socket"]).arg(agent.socket());
        let output = policyctl.output().expect("policyctl runs");
        if String::from_utf8_lossy(&output.stdout).contains(r#""phase": "enforcing""#) {
            return;
        }
        assert!(start.elapsed() < PATIENCE, "the agent on {} does not begin", agent.node());
        thread::sleep(Duration::from_millis(20));
    }
}

/// What a soak has done.
#[derive(Debug, Default)]
pub struct Done {
    /// How often the agent was killed.
    pub killed: u32,
    /// How often before all that it had found at its start was in force.
    pub killed_starting: u32,
    /// How often in the middle of a commit, as its tables show.
    pub killed_halfway: u32,
    /// How many changes were made.
    pub changes: u32,
    /// How far the number of the commit in force has gone.
    pub commits: u64,
    /// How long it took each time from a start until the last change was in force.
    pub starts: Spans,
    /// How long it took from a change, in a running agent.
    pub in_force: Spans,
    /// What did not become as it should.
    pub failure: Option<String>,
}

/// A soak that goes on.
struct Soak<'a> {
    lab: &'a Lab,
    agent: Agent,
    /// Those of the other nodes, which go on.
    _others: Vec<Agent>,
    world: World,
    choices: Choices,
    /// When the agent was started, if all that it found then is not in force yet.
    starting: Option<Instant>,
    /// When the last change was made, if it is not in force yet.
    changing: Option<Instant>,
    last_told: Instant,
    first_commit: u64,
    last_look: Option<Look>,
    /// Whether something passed or was cut that must not: there is no point in going on.
    is_violated: bool,
    done: Done,
}

impl<'a> Soak<'a> {
    fn new(lab: &'a Lab, agents: Vec<Agent>, options: &Options) -> Self {
        let (mut own, others): (Vec<Agent>, _) = agents.into_iter().partition(|agent| agent.node() == NODE);
        Self {
            lab,
            agent: own.pop().expect("the node has an agent"),
            _others: others,
            world: World::default(),
            choices: Choices(options.seed),
            starting: None,
            changing: None,
            last_told: Instant::now(),
            first_commit: 0,
            last_look: None,
            is_violated: false,
            done: Done::default(),
        }
    }

    /// Changes the manifests.
    fn change(&mut self) {
        self.world.change(self.lab);
        self.done.changes += 1;
        self.changing = Some(Instant::now());
    }

    /// Waits until the last change is in force.
    fn converge(&mut self) {
        /// Short: an agent is waited for, not a packet.
        const TIMING: Timing = Timing { timeout: Duration::from_millis(4), attempts: 1 };
        let since = Instant::now();
        while self.starting.or(self.changing).is_some() && self.done.failure.is_none() {
            if self.lab.probe_one(&self.world.mark(), TIMING).expect("it can be sent").is_allowed() {
                let now = Instant::now();
                match (self.starting.take(), self.changing.take()) {
                    (Some(started), _) => self.done.starts.add(now - started),
                    (None, Some(changed)) => self.done.in_force.add(now - changed),
                    (None, None) => {}
                }
            } else if since.elapsed() > PATIENCE || !self.agent.is_running() {
                let change = self.world.changes;
                let log = self.agent.log_tail();
                self.done.failure =
                    Some(format!("change {change} is not in force after {:.1?}:\n{log}", since.elapsed()));
            }
        }
    }

    /// Kills the agent and starts it again.
    fn kill_once(&mut self, options: &Options, begin: Instant) {
        match self.next_moment(options, begin) {
            Moment::Starting => self.sleep_up_to(self.done.starts.mean() * 5 / 4),
            Moment::Changing => {
                self.converge();
                self.change();
                self.sleep_up_to(self.done.in_force.mean() * 3 / 2);
            }
        }
        self.agent.kill().expect("it can be killed");
        self.done.killed += 1;
        self.done.killed_starting += u32::from(self.starting.is_some());
        let look = Look::at(self.agent.bpffs());
        self.done.commits = look.commit - self.first_commit;
        // What an earlier agent left half done is not this one's until it has begun.
        self.done.killed_halfway += u32::from(look.is_halfway() && self.last_look.as_ref() != Some(&look));
        self.last_look = Some(look);
        if self.choices.below(2) == 0 {
            self.change();
        }
        self.agent.spawn().expect("it can be started again");
        self.starting = Some(Instant::now());
    }

    /// Lets the time pass that is between two kills, with changes; then decides.
    fn next_moment(&mut self, options: &Options, begin: Instant) -> Moment {
        let due = begin + options.spread * self.done.killed / options.kills.max(1);
        if Instant::now() >= due {
            return self.choices.pick(&[
                Moment::Starting,
                Moment::Starting,
                Moment::Changing,
                Moment::Changing,
                Moment::Changing,
            ]);
        }
        while Instant::now() < due && self.done.failure.is_none() {
            self.converge();
            self.sleep_up_to(Duration::from_millis(100));
            self.change();
        }
        Moment::Changing
    }

    fn sleep_up_to(&mut self, most: Duration) {
        thread::sleep(most.mul_f64(self.choices.below(1000) as f64 / 1000.0));
    }

    /// Says how far it is: in one line that is written anew, or from time to time where lines stay.
    fn tell(&mut self, seen: &Seen, options: &Options, begin: Instant) {
        let is_terminal = std::io::stderr().is_terminal();
        let is_last = self.done.killed == options.kills;
        let pause = if is_terminal { Duration::from_millis(200) } else { TOLD };
        if self.last_told.elapsed() < pause && !is_last {
            return;
        }
        self.last_told = Instant::now();
        let Done { killed, killed_halfway, commits, .. } = &self.done;
        let line = format!(
            "{:>5.0?}  {killed}/{} kills, {killed_halfway} in the middle of one of {commits} commits; forbidden: {} sent, {} \
             passed; allowed: {} datagrams, {} exchanges, {} cut",
            begin.elapsed(),
            options.kills,
            seen.forbidden_sent(),
            seen.forbidden_passed(),
            seen.datagrams_sent(),
            seen.exchanges(),
            seen.talks_cut(),
        );
        let mut stderr = std::io::stderr().lock();
        let (begin, end) = if is_terminal { ("\r\x1b[2K", if is_last { "\n" } else { "" }) } else { ("", "\n") };
        // Nobody reads on: the figures are in the report.
        let _ = write!(stderr, "{begin}{line}{end}").and_then(|()| stderr.flush());
        self.is_violated = seen.forbidden_passed() > 0 || seen.talks_cut() > 0;
    }
}
