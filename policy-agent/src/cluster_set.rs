//! The ClusterSet file: which clusters there are, where their objects come from, and what their addresses may be.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use policy_core::model::{
    ClusterConfig, ClusterId, ClusterLabels, Issue, IssueCode, Labels, Level, Member, Scope, Text,
};

use crate::convert::cidr::parse_cidr;
use crate::convert::reader::{At, Notes, Unread, collect, elements_of};
use crate::document::{self, Format};
use crate::sources::kube::{Access, Here, KubeconfigSecret, ObjectName};

/// What a ClusterSet file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterSet {
    /// The local cluster, where the file names it; it is a member.
    pub local: Option<ClusterId>,
    /// The scope of peers that are not cluster-qualified.
    pub default_scope: Scope,
    /// Where the cluster label exists.
    pub cluster_labels: ClusterLabels,
    /// The members in written order; their ids differ.
    pub members: Vec<MemberEntry>,
}

/// A member's join record, and where its objects come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberEntry {
    /// The join record.
    pub member: Member,
    /// Where its objects come from.
    pub source: Source,
    /// How long its last known state stays while it cannot be reached; for ever where absent.
    pub stale_after: Option<Duration>,
    /// The ClusterProperty keys of this member that are believed.
    pub trusted_properties: Vec<Text>,
}

/// Where a member's objects come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A directory of manifests.
    Directory(PathBuf),
    /// An API server.
    Kube(Access),
}

/// A ClusterSet file that can be used, and what is still questionable about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// What the file says.
    pub cluster_set: ClusterSet,
    /// Warnings.
    pub issues: Vec<Issue>,
}

/// Why a ClusterSet file cannot be used: all that is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterSetError {
    /// At least one.
    pub issues: Vec<Issue>,
}

/// The key of a Secret that holds a kubeconfig, if the ClusterSet names no other.
const KUBECONFIG_KEY: &str = "kubeconfig";

impl ClusterSet {
    /// The credentials that this machine has for the local cluster's API server, if its objects come from one.
    pub fn local_access(&self) -> Option<&Here> {
        let local = self.members.iter().find(|entry| self.local.as_ref() == Some(&entry.member.id))?;
        match &local.source {
            Source::Kube(Access::Here(here)) => Some(here),
            Source::Kube(Access::Secret(_) | Access::Profile(_)) | Source::Directory(_) => None,
        }
    }

    /// Reads the file at `path`.
    pub fn load(path: &Path) -> Result<Loaded, ClusterSetError> {
        match document::read(path) {
            Ok((bytes, _)) => Self::parse(&bytes, path),
            Err(error) => Err(ClusterSetError::whole(path, &Unreadable(&error))),
        }
    }

    /// Reads the content of the file at `path`, to which the paths in it are relative.
    pub fn parse(bytes: &[u8], path: &Path) -> Result<Loaded, ClusterSetError> {
        let documents = document::parse(bytes, Format::Yaml).map_err(|error| ClusterSetError::whole(path, &error))?;
        let [document] = documents.as_slice() else {
            let message = format!("holds {} documents; it must be one ClusterSet", documents.len());
            return Err(ClusterSetError::whole(path, &message));
        };
        let object = path.display().to_string();
        let mut notes = Notes::new(&object, IssueCode::UnreadableClusterSet);
        let base = path.parent().unwrap_or(Path::new(""));
        match read(&At::root(document), base, &mut notes) {
            Ok(cluster_set) => Ok(Loaded { cluster_set, issues: notes.into_issues() }),
            Err(Unread) => {
                let mut issues = notes.into_issues();
                issues.retain(|issue| issue.level == Level::Error);
                Err(ClusterSetError { issues })
            }
        }
    }

    /// The ClusterSet as a node of cluster `local` sees it.
    pub fn config(&self, local: &ClusterId) -> ClusterConfig {
        ClusterConfig {
            local: local.clone(),
            default_scope: self.default_scope,
            cluster_labels: self.cluster_labels,
            members: self.members.iter().map(|entry| entry.member.clone()).collect(),
        }
    }
}

impl ClusterSetError {
    fn whole(path: &Path, message: &dyn fmt::Display) -> Self {
        let issue = Issue {
            code: IssueCode::UnreadableClusterSet,
            level: Level::Error,
            object: path.display().to_string(),
            field: String::new(),
            message: message.to_string(),
        };
        Self { issues: vec![issue] }
    }
}

impl fmt::Display for ClusterSetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, issue) in self.issues.iter().enumerate() {
            let separator = if at == 0 { "" } else { "\n" };
            write!(f, "{separator}{issue}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ClusterSetError {}

struct Unreadable<'e>(&'e io::Error);

impl fmt::Display for Unreadable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot be read: {}", self.0)
    }
}

fn read(at: &At<'_>, base: &Path, notes: &mut Notes<'_>) -> Result<ClusterSet, Unread> {
    at.map(notes)?;
    constant(&at.member("kind"), "ClusterSet", notes)?;
    constant(&at.member("apiVersion"), "crosswall.dev/v1alpha1", notes)?;
    let known = at.only_names(&["apiVersion", "kind", "metadata", "spec"], notes);
    let metadata = at.get("metadata").map_or(Ok(()), |metadata| {
        metadata.only_names(&["name", "namespace", "labels", "annotations", "creationTimestamp", "uid"], notes)
    });
    let spec = spec(&at.member("spec"), base, notes);
    known?;
    metadata?;
    spec
}

fn spec(at: &At<'_>, base: &Path, notes: &mut Notes<'_>) -> Result<ClusterSet, Unread> {
    at.map(notes)?;
    let known = at.only_names(&["local", "defaultPeerScope", "clusterLabels", "members"], notes);
    let local = at.get("local").map(|place| cluster_id(&place, notes)).transpose();
    let default_scope = at.get("defaultPeerScope").map_or(Ok(Scope::default()), |place| {
        one_of(&place, &[("Local", Scope::Local), ("ClusterSet", Scope::ClusterSet)], notes)
    });
    let cluster_labels = at.get("clusterLabels").map_or(Ok(ClusterLabels::default()), |place| {
        let modes = [("Implicit", ClusterLabels::Implicit), ("Explicit", ClusterLabels::Explicit)];
        one_of(&place, &modes, notes)
    });
    let members = members(&at.member("members"), base, notes);
    known?;
    let (local, members) = (local?, members?);
    if let Some(local) = &local
        && !members.iter().any(|entry| entry.member.id == *local)
    {
        return Err(notes.unreadable(&at.member("local"), format_args!("no member has the id {:?}", local.as_str())));
    }
    let is_local = |entry: &MemberEntry| local.as_ref() == Some(&entry.member.id);
    if let Some(number) = members.iter().position(|entry| is_local(entry) && entry.stale_after.is_some()) {
        let message = "the last known state of the local cluster always stays: without it no policy would be enforced";
        let list = at.member("members");
        let elements = list.elements(notes)?;
        notes.warn(IssueCode::IneffectiveField, &elements[number].member("staleAfter"), message);
    }
    Ok(ClusterSet { local, default_scope: default_scope?, cluster_labels: cluster_labels?, members })
}

fn members(at: &At<'_>, base: &Path, notes: &mut Notes<'_>) -> Result<Vec<MemberEntry>, Unread> {
    let mut members = Ok(Vec::new());
    let mut ids: HashMap<ClusterId, String> = HashMap::new();
    let elements = at.elements(notes)?;
    if elements.is_empty() {
        return Err(notes.unreadable(at, "a ClusterSet has at least one member, the local cluster"));
    }
    for element in &elements {
        let read = member(element, base, notes).and_then(|entry| {
            let place = element.member("id");
            match ids.insert(entry.member.id.clone(), place.to_string()) {
                None => Ok(entry),
                Some(first) => {
                    Err(notes.unreadable(&place, format_args!("{} is the id at {first} too", entry.member.id)))
                }
            }
        });
        collect(&mut members, read);
    }
    let members = members?;
    warn_of_overlaps(&members, &elements, notes);
    Ok(members)
}

fn member(at: &At<'_>, base: &Path, notes: &mut Notes<'_>) -> Result<MemberEntry, Unread> {
    const KNOWN: [&str; 6] = ["id", "source", "podCIDRs", "labels", "staleAfter", "trustedProperties"];
    at.map(notes)?;
    let known = at.only_names(&KNOWN, notes);
    let id = cluster_id(&at.member("id"), notes);
    let name = id.as_ref().map_or("?", |id| id.as_str()).to_owned();
    let source = source(&at.member("source"), &name, base, notes);
    let pod_cidrs = strings(at, "podCIDRs", notes, |place, text, notes| {
        let cidr = parse_cidr(text).map_err(|why| notes.unreadable(place, format_args!("{text:?} {why}")))?;
        if cidr.masked {
            let message = format_args!("{text} has host bits, which are ignored; write {}", cidr.net);
            notes.warn(IssueCode::MaskedHostBits, place, message);
        }
        Ok(cidr.net)
    });
    let labels = at.get("labels").map_or(Ok(Labels::new()), |place| labels(&place, notes));
    let stale_after = at.get("staleAfter").map(|place| duration(&place, notes)).transpose();
    let trusted_properties = strings(at, "trustedProperties", notes, |_, text, _| Ok(text.into()));
    known?;
    let member = Member { id: id?, pod_cidrs: pod_cidrs?, labels: labels? };
    Ok(MemberEntry { member, source: source?, stale_after: stale_after?, trusted_properties: trusted_properties? })
}

fn source(at: &At<'_>, member: &str, base: &Path, notes: &mut Notes<'_>) -> Result<Source, Unread> {
    const KINDS: [&str; 5] = ["directory", "inCluster", "kubeconfig", "clusterProfile", "etcd"];
    at.map(notes)?;
    let known = at.only_names(&KINDS, notes);
    let kinds: Vec<&str> = KINDS.into_iter().filter(|kind| at.get(kind).is_some()).collect();
    let source = match kinds.as_slice() {
        ["directory"] => {
            let directory = at.member("directory");
            let known = directory.only_names(&["path"], notes);
            let path = path(&directory, "a directory", base, notes);
            known.and(path).map(Source::Directory)
        }
        ["inCluster"] => {
            let place = at.member("inCluster");
            place.map(notes)?;
            place.only_names(&[], notes).map(|()| Source::Kube(Access::Here(Here::InCluster)))
        }
        ["kubeconfig"] => kubeconfig(&at.member("kubeconfig"), base, notes).map(Source::Kube),
        ["clusterProfile"] => cluster_profile(&at.member("clusterProfile"), notes).map(Source::Kube),
        ["etcd"] => Err(notes.unreadable(
            &at.member("etcd"),
            format_args!("source etcd of member {member} is not supported by this version; use kubeconfig"),
        )),
        [] if known.is_err() => Err(Unread),
        kinds => Err(notes.unreadable(at, format_args!("member {member} needs one source, not {}", kinds.len()))),
    };
    known?;
    source
}

/// A kubeconfig: a file's, or a Secret's.
fn kubeconfig(at: &At<'_>, base: &Path, notes: &mut Notes<'_>) -> Result<Access, Unread> {
    at.map(notes)?;
    at.only_names(&["path", "secretRef"], notes)?;
    match (at.get("path"), at.get("secretRef")) {
        (Some(_), None) => path(at, "a kubeconfig file", base, notes).map(|path| Access::Here(Here::File(path))),
        (None, Some(secret)) => secret_ref(&secret, notes).map(Access::Secret),
        _ => Err(notes.unreadable(at, "needs either path or secretRef")),
    }
}

fn secret_ref(at: &At<'_>, notes: &mut Notes<'_>) -> Result<KubeconfigSecret, Unread> {
    at.map(notes)?;
    let known = at.only_names(&["namespace", "name", "key"], notes);
    let object = object_name(at, notes);
    let key = if at.get("key").is_some() { filled(at, "key", notes) } else { Ok(KUBECONFIG_KEY.to_owned()) };
    known?;
    Ok(KubeconfigSecret { object: object?, key: key? })
}

fn cluster_profile(at: &At<'_>, notes: &mut Notes<'_>) -> Result<Access, Unread> {
    at.map(notes)?;
    let known = at.only_names(&["namespace", "name"], notes);
    let object = object_name(at, notes);
    known?;
    object.map(Access::Profile)
}

fn object_name(at: &At<'_>, notes: &mut Notes<'_>) -> Result<ObjectName, Unread> {
    let (namespace, name) = (filled(at, "namespace", notes), filled(at, "name", notes));
    Ok(ObjectName { namespace: namespace?, name: name? })
}

/// A text that is not empty.
fn filled(at: &At<'_>, name: &str, notes: &mut Notes<'_>) -> Result<String, Unread> {
    let place = at.member(name);
    match place.string(notes)? {
        "" => Err(notes.unreadable(&place, "must not be empty")),
        text => Ok(text.to_owned()),
    }
}

/// The member `path` of a source.
fn path(at: &At<'_>, what: &str, base: &Path, notes: &mut Notes<'_>) -> Result<PathBuf, Unread> {
    let place = at.member("path");
    match place.string(notes)? {
        "" => Err(notes.unreadable(&place, format_args!("must name {what}"))),
        path => Ok(base.join(path)),
    }
}

fn labels(at: &At<'_>, notes: &mut Notes<'_>) -> Result<Labels, Unread> {
    let mut labels = Ok(Vec::new());
    for member in at.members(notes)? {
        let read = member.string(notes).map(|value| (Text::from(member.name()), Text::from(value)));
        collect(&mut labels, read);
    }
    Ok(labels?.into_iter().collect())
}

fn strings<T>(
    at: &At<'_>,
    name: &str,
    notes: &mut Notes<'_>,
    read: impl Fn(&At<'_>, &str, &mut Notes<'_>) -> Result<T, Unread>,
) -> Result<Vec<T>, Unread> {
    let list = at.get(name);
    let mut items = Ok(Vec::new());
    for element in elements_of(list.as_ref(), notes)? {
        let item = element.string(notes).and_then(|text| read(&element, text, notes));
        collect(&mut items, item);
    }
    items
}

fn cluster_id(at: &At<'_>, notes: &mut Notes<'_>) -> Result<ClusterId, Unread> {
    at.string(notes)?.parse().map_err(|why| notes.unreadable(at, why))
}

fn constant(at: &At<'_>, wanted: &str, notes: &mut Notes<'_>) -> Result<(), Unread> {
    one_of(at, &[(wanted, ())], notes)
}

fn one_of<T: Copy>(at: &At<'_>, values: &[(&str, T)], notes: &mut Notes<'_>) -> Result<T, Unread> {
    let text = at.string(notes)?;
    let found = values.iter().find(|(name, _)| *name == text).map(|(_, value)| *value);
    found.ok_or_else(|| {
        let names: Vec<_> = values.iter().map(|(name, _)| *name).collect();
        notes.unreadable(at, format_args!("{text:?} is not {}", names.join(" or ")))
    })
}

/// Durations as Go writes them, in whole units: `90s`, `1h30m`.
fn duration(at: &At<'_>, notes: &mut Notes<'_>) -> Result<Duration, Unread> {
    let text = at.string(notes)?;
    let parse = || {
        let (mut rest, mut sum) = (text, Duration::ZERO);
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit())?;
            let number: u64 = rest[..digits].parse().ok()?;
            let unit = rest[digits..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |end| digits + end);
            let part = match &rest[digits..unit] {
                "h" => Duration::from_secs(number.checked_mul(3600)?),
                "m" => Duration::from_secs(number.checked_mul(60)?),
                "s" => Duration::from_secs(number),
                "ms" => Duration::from_millis(number),
                _ => return None,
            };
            sum = sum.checked_add(part)?;
            rest = &rest[unit..];
        }
        (!sum.is_zero()).then_some(sum)
    };
    parse().ok_or_else(|| notes.unreadable(at, format_args!("{text:?} is no duration, as 90s or 1h30m")))
}

fn warn_of_overlaps(members: &[MemberEntry], places: &[At<'_>], notes: &mut Notes<'_>) {
    for (at, (entry, place)) in members.iter().zip(places).enumerate() {
        let member = &entry.member;
        if member.pod_cidrs.is_empty() {
            let message = format_args!(
                "member {} has no podCIDRs: it may claim every address that lies in no other member's",
                member.id
            );
            notes.warn(IssueCode::MissingPodCidrs, &place.member("podCIDRs"), message);
        }
        for other in members[..at].iter().map(|entry| &entry.member) {
            let pairs = member.pod_cidrs.iter().flat_map(|mine| other.pod_cidrs.iter().map(move |its| (mine, its)));
            for (mine, its) in pairs.filter(|(mine, its)| mine.contains(*its) || its.contains(*mine)) {
                let message = format_args!("{mine} of member {} overlaps {its} of member {}", member.id, other.id);
                notes.warn(IssueCode::OverlappingPodCidrs, &place.member("podCIDRs"), message);
            }
        }
    }
}

#[cfg(test)]
mod tests;
