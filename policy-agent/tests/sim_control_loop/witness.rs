//! Watches every step of every plan: what packets see must be one world whole, and then the next one whole.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use policy_core::judge::opening_packet;
use policy_core::model::Text;
use policy_core::modelled::Modelled;
use policy_core::plan::{Plan, Step, TableState};

use crate::expectation::{Candidate, Expected, Worlds, way};
use crate::hooks;
use crate::network::Network;
use crate::script::Probe;

/// What the tables say at one interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The endpoint's number.
    pub id: u32,
    /// Whether it waits for its policies.
    pub held: bool,
    /// Its addresses.
    pub own: Vec<IpAddr>,
    /// Which probes pass, by their number.
    pub passes: u64,
}

/// What the tables say everywhere.
pub type View = BTreeMap<u32, Row>;

/// Whether two views say the same of every packet, but at these interfaces, where nothing may pass either.
fn alike(seen: &View, like: &View, but: &BTreeSet<u32>) -> bool {
    let passes = |view: &View, ifindex: &u32| view.get(ifindex).map_or(0, |row| row.passes);
    seen.keys().chain(like.keys()).all(|ifindex| {
        let passing = passes(seen, ifindex);
        passing == passes(like, ifindex) || passing == 0 && but.contains(ifindex)
    })
}

/// A plan that is being carried out.
#[derive(Debug)]
struct Watched {
    old: View,
    new: View,
    /// Interfaces that are given to another endpoint: it is held until the flip.
    takeovers: BTreeSet<u32>,
    has_flip: bool,
    /// The oldest world that may have been in force before it.
    oldest: usize,
    /// Whether packets already see the new state.
    moved: bool,
}

/// The eyes on the tables.
#[derive(Debug)]
pub struct Witness {
    probes: Vec<(Probe, Vec<u8>)>,
    /// What agents were told.
    pub worlds: Worlds,
    /// The worlds that the tables may be saying now.
    pub in_force: BTreeSet<usize>,
    /// Those under which live connections may still pass: the flip has not come.
    lagging: BTreeSet<usize>,
    /// Whether a plan was cut off, and no flip has come since.
    was_cut: bool,
    watched: Option<Watched>,
    /// All that packets saw since the last grace period.
    since_grace: Vec<View>,
    /// Whether packets may still be on their way that read the other slot.
    reads_other: bool,
    /// Interfaces given to another endpoint since the last grace period.
    given_away: BTreeSet<u32>,
}

impl Witness {
    /// Watches these probes, at most 64 of them.
    pub fn new(probes: &[Probe]) -> Self {
        let packets = probes.iter().take(64).filter_map(|probe| Some((*probe, opening_packet(&probe.connection)?)));
        Self {
            probes: packets.collect(),
            worlds: Worlds::new(),
            in_force: BTreeSet::from([0]),
            lagging: BTreeSet::new(),
            was_cut: false,
            watched: None,
            since_grace: vec![View::new()],
            reads_other: false,
            given_away: BTreeSet::new(),
        }
    }

    /// What packets see that begin now.
    pub fn look(&self, tables: &TableState) -> View {
        let modelled = Modelled::new(tables);
        let mut view = View::new();
        for (&ifindex, endpoint) in &tables.endpoints {
            let own = hooks::own_addresses(endpoint);
            let mut passes = 0;
            for (number, (probe, packet)) in self.probes.iter().enumerate() {
                if own.contains(&probe.own()) {
                    let arrival = hooks::arrival(tables, probe.connection.source);
                    let verdict = hooks::judge(&modelled, ifindex, probe.direction, arrival, packet);
                    passes |= u64::from(verdict.allow) << number;
                }
            }
            view.insert(ifindex, Row { id: endpoint.endpoint.id, held: tables.is_held(ifindex), own, passes });
        }
        view
    }

    /// A plan begins.
    pub fn begins(&mut self, tables: &TableState, plan: &Plan) {
        let mut after = tables.clone();
        plan.steps.iter().for_each(|step| after.step(step));
        let (old, new) = (self.look(tables), self.look(&after));
        let is_taken_over = |(ifindex, row): &(&u32, &Row)| new.get(ifindex).is_some_and(|new| new.id != row.id);
        let takeovers: BTreeSet<u32> = old.iter().filter(is_taken_over).map(|(ifindex, _)| *ifindex).collect();
        self.given_away.extend(&takeovers);
        self.lagging.extend(&self.in_force);
        let has_flip = plan.commit().is_some();
        let oldest = self.in_force.first().copied().unwrap_or_default();
        self.watched = Some(Watched { old, new, takeovers, has_flip, oldest, moved: false });
    }

    /// A step has been carried out; before it the tables had this commit.
    pub fn steps(&mut self, tables: &mut TableState, step: &Step, commit_before: u64) -> Result<(), String> {
        let seen = self.look(tables);
        if *step == Step::Grace {
            self.since_grace.clear();
            self.reads_other = false;
            self.given_away = self.watched.as_ref().map(|it| it.takeovers.clone()).unwrap_or_default();
        }
        if !self.since_grace.contains(&seen) {
            self.since_grace.push(seen.clone());
        }
        self.reads_other |= (tables.commit ^ commit_before) & 1 == 1;
        self.is_whole(&seen)?;
        self.is_known(&seen)?;
        self.is_whole_to_who_reads_the_other_slot(tables)
    }

    /// Everybody sees the old state, or everybody the new one.
    fn is_whole(&mut self, seen: &View) -> Result<(), String> {
        let Some(watched) = &mut self.watched else { return Ok(()) };
        watched.moved |= !alike(seen, &watched.old, &watched.takeovers);
        if watched.moved && !alike(seen, &watched.new, &watched.takeovers) {
            let Watched { old, new, .. } = watched;
            return Err(format!(
                "packets see a mixture
  seen {seen:?}
  old {old:?}
  new {new:?}"
            ));
        }
        Ok(())
    }

    /// What is seen is what one of the worlds says of which the agent was told, and none older than was seen before.
    fn is_known(&mut self, seen: &View) -> Result<(), String> {
        let oldest = self.in_force.first().copied().unwrap_or_default();
        let fits = |(number, world): (usize, &Candidate)| self.difference(seen, world).is_none().then_some(number);
        let fitting: BTreeSet<usize> = self.worlds.from(oldest).filter_map(fits).collect();
        if fitting.is_empty() {
            let differences: Vec<String> = self
                .worlds
                .from(oldest)
                .filter_map(|(number, world)| Some(format!("\n  world {number}: {}", self.difference(seen, world)?)))
                .collect();
            return Err(format!("no world that the agent was told of decides like this{}", differences.concat()));
        }
        self.in_force = fitting;
        let lagging = self.lagging.first().or(self.in_force.first()).copied().unwrap_or_default();
        self.worlds.forget_before(lagging.min(self.in_force.first().copied().unwrap_or_default()));
        Ok(())
    }

    /// Where a view contradicts a world.
    fn difference(&self, seen: &View, world: &Candidate) -> Option<String> {
        for (ifindex, row) in seen.iter().filter(|(_, row)| !row.held) {
            for (number, (probe, _)) in self.probes.iter().enumerate().filter(|(_, it)| row.own.contains(&it.0.own())) {
                let passes = row.passes >> number & 1 == 1;
                let said = world.says(probe);
                if said != Expected::Either && said != Expected::Passes(passes) {
                    let (way, connection) = (way(probe.direction), probe.connection);
                    return Some(format!(
                        "interface {ifindex}, {way} {connection:?}: passes {passes}, should be {said:?}"
                    ));
                }
            }
        }
        None
    }

    /// Packets that began before a flip, and have not ended, see what was in force since they began.
    fn is_whole_to_who_reads_the_other_slot(&self, tables: &mut TableState) -> Result<(), String> {
        if !self.reads_other {
            return Ok(());
        }
        let commit = tables.commit;
        tables.commit = commit ^ 1;
        let seen = self.look(tables);
        tables.commit = commit;
        if self.since_grace.iter().any(|view| alike(&seen, view, &self.given_away)) {
            return Ok(());
        }
        let since = &self.since_grace;
        Err(format!(
            "packets that are on their way since before the flip see a mixture\n  seen {seen:?}\n  since {since:?}"
        ))
    }

    /// A plan has ended, whole or cut off; the network is as the agent may know it.
    pub fn ends(&mut self, tables: &TableState, network: &Network, was_cut: bool) -> Result<(), String> {
        let Some(Watched { old, has_flip, oldest, .. }) = self.watched.take() else { return Ok(()) };
        self.was_cut = was_cut || self.was_cut && !has_flip;
        if !self.was_cut {
            self.lagging.clear();
        }
        if was_cut {
            return Ok(());
        }
        let seen = self.look(tables);
        for (ifindex, row) in
            old.iter().filter(|(ifindex, row)| !row.held && self.stays(**ifindex, row, network, oldest))
        {
            match seen.get(ifindex) {
                Some(now) if !now.held && now.id == row.id => {}
                now => return Err(format!("interface {ifindex} of a pod that stays had {row:?}, and has {now:?}")),
            }
        }
        Ok(())
    }

    /// Whether an endpoint is to be found where it is, whatever the agent knows by now.
    fn stays(&self, ifindex: u32, row: &Row, network: &Network, oldest: usize) -> bool {
        let is_there = !network.touched.contains(&ifindex)
            && network.interfaces.contains(&ifindex)
            && row.own.iter().all(|own| network.routes.get(own) == Some(&ifindex) && !network.hosts.contains(own));
        let uids: BTreeSet<Option<Text>> = self.worlds.from(oldest).map(|(_, world)| world.only(&row.own)).collect();
        is_there && uids.len() == 1 && !uids.contains(&None)
    }

    /// Whether a packet of a connection that is judged now may pass or not, by what the worlds say that may be in force.
    pub fn allows(&self, judged: &Probe, passes: bool) -> Result<(), String> {
        let numbers: BTreeSet<usize> = self.in_force.union(&self.lagging).copied().collect();
        let said: Vec<(usize, Expected)> =
            numbers.iter().filter_map(|number| Some((*number, self.worlds.get(*number)?.says(judged)))).collect();
        let fits = |said: &Expected| match said {
            Expected::Nobody => !passes,
            Expected::Passes(verdict) => *verdict == passes,
            Expected::Either => true,
        };
        if said.iter().any(|(_, said)| fits(said)) {
            return Ok(());
        }
        Err(format!("{} {:?}: passes {passes}, should be {said:?}", way(judged.direction), judged.connection))
    }

    /// The agent is gone, wherever it was; a plan that it had begun was cut off.
    pub fn dies(&mut self) {
        if self.watched.take().is_some() {
            self.was_cut = true;
        }
    }

    /// Whether a plan was cut off, and no flip has come since.
    pub fn is_cut(&self) -> bool {
        self.was_cut
    }

    /// Everything is quiet: nothing lags behind, and the newest world alone is in force.
    pub fn is_settled(&mut self, tables: &TableState) -> Result<(), String> {
        self.lagging.clear();
        self.was_cut = false;
        let seen = self.look(tables);
        let (number, newest) = self.worlds.newest();
        if let Some(difference) = self.difference(&seen, newest) {
            return Err(format!("the newest world is not in force: {difference}"));
        }
        self.in_force = BTreeSet::from([number]);
        Ok(())
    }

    /// Every pod of the newest world that is to be found is an endpoint in force, wherever the agent believes it to be.
    pub fn all_are_found(&self, tables: &TableState, network: &Network) -> Result<(), String> {
        let (_, newest) = self.worlds.newest();
        for pod in newest.world.pods.values().filter(|pod| newest.only(&pod.addresses).as_ref() == Some(&pod.uid)) {
            let routes: BTreeSet<Option<&u32>> = pod.addresses.iter().map(|own| network.routes.get(own)).collect();
            let is_there = routes.len() == 1 && !routes.contains(&None);
            let mut endpoints = tables.endpoints.iter().filter(|(ifindex, _)| !tables.is_held(**ifindex));
            if is_there && !endpoints.any(|(_, known)| hooks::own_addresses(known) == pod.addresses) {
                return Err(format!("{} has an interface, and is no endpoint in force", pod.key));
            }
        }
        Ok(())
    }
}
