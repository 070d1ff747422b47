//! What is wrong: gathered from everywhere, each problem said once when it comes and once when it goes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use policy_core::compile::Compiler;
use policy_core::index::PodEntry;
use policy_core::issues::pod_object;
use policy_core::model::{ClusterId, Issue, IssueCode, Level, PodKey, Text};
use policy_core::plan::{Table, TableFull};
use tokio::time::Instant;

use super::seams::Failure;
use crate::api::types::IssueCounts;

/// How long a pod may be without an interface before that is a problem: its network is set up after it is scheduled.
const PATIENCE: Duration = Duration::from_secs(1);

/// How many problems of a kind are told one by one when they come at the same time.
const LINES: usize = 20;

/// All problems.
#[derive(Debug)]
pub struct Problems {
    node: Text,
    source: Vec<Issue>,
    /// What the whole of the objects shows to be wrong; `None`: not found out since they changed.
    whole: Option<Vec<Issue>>,
    start: Option<Issue>,
    commit: Option<Issue>,
    pods: BTreeMap<(PodKey, IssueCode), PodProblem>,
    said: BTreeSet<Issue>,
}

/// What is wrong with an endpoint's interface.
#[derive(Clone, Debug)]
struct PodProblem {
    since: Instant,
    message: String,
}

/// Whether a problem is one that was known already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// It was not known.
    New,
    /// It was.
    Known,
}

impl Problems {
    /// Why a member cannot be followed now, or what is known of it is old, if that is so.
    pub fn unusable(&self, cluster: &ClusterId) -> Option<String> {
        let codes = [IssueCode::UnusableSource, IssueCode::RestoredSource, IssueCode::StaleSource];
        let of_member = |issue: &&Issue| codes.contains(&issue.code) && issue.object == cluster.as_str();
        let messages: Vec<&str> = self.source.iter().filter(of_member).map(|issue| issue.message.as_str()).collect();
        (!messages.is_empty()).then(|| messages.join("; "))
    }

    /// None, of this node.
    pub fn new(node: Text) -> Self {
        Self {
            node,
            source: Vec::new(),
            whole: None,
            start: None,
            commit: None,
            pods: BTreeMap::new(),
            said: BTreeSet::new(),
        }
    }

    fn of_node(&self, code: IssueCode, level: Level, message: String) -> Issue {
        Issue { code, level, object: format!("Node/{}", self.node), field: String::new(), message }
    }

    /// The deadline has passed without the local cluster.
    pub fn local_unknown(&mut self, local: &ClusterId) {
        let message = format!(
            "{local}, the local cluster, has not told all it has, so nothing is changed: the kernel goes on enforcing \
             what it held before, and new pods are not judged; see that its source in the ClusterSet file can be read"
        );
        self.start = Some(self.of_node(IssueCode::LocalClusterUnknown, Level::Error, message));
    }

    /// The local cluster has told all it has.
    pub fn local_known(&mut self) {
        self.start = None;
    }

    /// A name that no pod has its node by is probably not this node's.
    fn unknown_node(&self, compiler: &Compiler) -> Option<Issue> {
        if !compiler.subjects().is_empty() {
            return None;
        }
        let index = compiler.index();
        let local = index.pods().filter(|pod| index.is_local(pod.cluster()));
        let mut others = BTreeSet::new();
        for name in local.filter_map(PodEntry::node) {
            if *name == self.node {
                return None;
            }
            others.insert(&**name);
        }
        let example = others.first()?;
        let message = format!(
            "no pod of {} names it in spec.nodeName, but pods name {} others, as {example}: if pods run here, --node has \
             another name than the API server's",
            index.config().local,
            others.len()
        );
        Some(self.of_node(IssueCode::UnknownNode, Level::Warning, message))
    }

    /// Objects may have changed, and with them what is wrong with the whole.
    pub fn objects_changed(&mut self) {
        self.whole = None;
    }

    /// All that is wrong with the source's input now.
    pub fn source(&mut self, issues: Vec<Issue>) {
        self.source = issues;
    }

    /// Commits work.
    pub fn committed(&mut self) {
        self.commit = None;
    }

    /// A commit does not fit.
    pub fn table_full(&mut self, full: &TableFull) -> News {
        let consequence = match full.table {
            Table::Endpoints => {
                "for pods that came since and find no room nothing passes at all, not even what finds neighbours; move \
                 pods to other nodes"
            }
            _ => "pods that came since are held: nothing passes but what always does",
        };
        let message = format!("{full}; {consequence}");
        let issue = self.of_node(IssueCode::TableFull, Level::Error, message);
        self.set_commit(Issue { field: full.table.to_string(), ..issue })
    }

    /// The kernel refused a write, perhaps after the new policy was in force already.
    pub fn commit_failed(&mut self, failure: &Failure, in_force: u64) -> News {
        let message =
            format!("{failure}; the commit was cut off and is tried again; packets are judged by commit {in_force}");
        self.set_commit(self.of_node(IssueCode::CommitFailed, Level::Error, message))
    }

    fn set_commit(&mut self, issue: Issue) -> News {
        let known = self.commit.as_ref().is_some_and(|before| before.code == issue.code);
        self.commit = Some(issue);
        if known { News::Known } else { News::New }
    }

    /// Something is wrong with a pod's interface.
    pub fn pod(&mut self, key: &PodKey, code: IssueCode, message: String, now: Instant) -> News {
        let since = self.pods.get(&(key.clone(), code)).map(|known| known.since);
        self.pods.insert((key.clone(), code), PodProblem { since: since.unwrap_or(now), message });
        if since.is_some() { News::Known } else { News::New }
    }

    /// Only these pods still have a problem of this kind.
    pub fn keep_pods(&mut self, code: IssueCode, keep: impl Fn(&PodKey) -> bool) {
        self.pods.retain(|(key, known), _| *known != code || keep(key));
    }

    /// All issues that stand now, in order, each once.
    pub fn all(&mut self, compiler: &Compiler, now: Instant) -> Vec<Issue> {
        let whole = self.whole.take().unwrap_or_else(|| {
            let mut whole = policy_core::issues::of(compiler);
            whole.extend(self.unknown_node(compiler));
            whole
        });
        let pods = self.pods.iter().filter(|((_, code), problem)| {
            *code != IssueCode::NoInterface || now.duration_since(problem.since) >= PATIENCE
        });
        let pods = pods.map(|((key, code), problem)| Issue {
            code: *code,
            level: Level::Error,
            object: pod_object(key),
            field: String::new(),
            message: problem.message.clone(),
        });
        let mut issues = whole.clone();
        issues.extend(self.source.iter().chain(&self.start).chain(&self.commit).cloned().chain(pods));
        issues.sort();
        issues.dedup();
        self.whole = Some(whole);
        issues
    }

    /// Writes what is new, and what is no more, to the log.
    pub fn say(&mut self, compiler: &Compiler, now: Instant) {
        let issues: BTreeSet<Issue> = self.all(compiler, now).into_iter().collect();
        let place = |issue: &Issue| (issue.code, issue.object.clone(), issue.field.clone());
        let places: BTreeSet<_> = issues.iter().map(place).collect();
        for (level, line) in lines(issues.difference(&self.said)) {
            match level {
                Level::Error => tracing::error!("{line}"),
                Level::Warning => tracing::warn!("{line}"),
            }
        }
        let mended = self.said.difference(&issues).filter(|issue| !places.contains(&place(issue)));
        for (_, line) in lines(mended) {
            tracing::info!("mended: {line}");
        }
        self.said = issues;
    }
}

/// What the log has of issues, which are in order: of each kind a few lines. A member can have as many pods with a wrong
/// address as it likes.
fn lines<'a>(issues: impl Iterator<Item = &'a Issue>) -> Vec<(Level, String)> {
    let issues: Vec<&Issue> = issues.collect();
    let mut lines = Vec::new();
    for alike in issues.chunk_by(|one, other| one.code == other.code) {
        lines.extend(alike.iter().take(LINES).map(|issue| (issue.level, issue.to_string())));
        if let Some(last) = alike.get(LINES..).and_then(<[_]>::last) {
            let more = alike.len() - LINES;
            lines.push((last.level, format!("{more} more like this: {last}; policyctl issues lists them")));
        }
    }
    lines
}

/// How many of each level.
pub fn count(issues: &[Issue]) -> IssueCounts {
    let errors = issues.iter().filter(|issue| issue.level == Level::Error).count();
    IssueCounts { errors, warnings: issues.len() - errors }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_very_many_problems_of_a_kind_the_log_has_a_few() {
        let of = |code, object: usize| Issue {
            code,
            level: Level::Error,
            object: format!("b/Pod/shop/pod-{object:06}"),
            field: String::new(),
            message: "wrong".to_owned(),
        };
        let outside = (0..100_000).map(|object| of(IssueCode::AddressOutsidePodCidrs, object));
        let issues: BTreeSet<Issue> = outside.chain([of(IssueCode::NoInterface, 7)]).collect();
        let said = lines(issues.iter());
        assert_eq!(said.len(), LINES + 2, "{said:?}");
        assert!(said.iter().any(|(_, line)| line.contains("pod-000007: wrong")), "{said:?}");
        let rest = said.iter().find(|(_, line)| line.starts_with("99980 more like this: b/Pod/shop/pod-099999: wrong"));
        assert!(rest.is_some(), "{said:?}");
        assert_eq!(lines(issues.iter().take(LINES)).len(), LINES, "nothing is left out of what is few");
    }
}
