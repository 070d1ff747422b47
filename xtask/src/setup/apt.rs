//! One package of another Debian suite, without touching the machine's own apt: a private
//! configuration that knows nothing but that suite, on the mirror that the machine uses anyway.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use super::apt_sources::{Archive, archive_of};
use crate::process;

/// A package in exactly one version.
pub struct Package {
    /// `rust-src`.
    pub name: &'static str,
    /// The whole version, Debian's revision included.
    pub version: &'static str,
    /// The suite that has it.
    pub suite: &'static str,
}

/// Downloads a package into `folder`, which must be empty; nothing is installed.
pub fn download(package: &Package, folder: &Path) -> Result<PathBuf> {
    let archive = debian_archive()?;
    let apt = PrivateApt::write(folder, &archive, package.suite)?;
    process::output(apt.command("apt-get").arg("update")).with_context(|| format!("read {}", package.suite))?;
    let wanted = format!("{}={}", package.name, package.version);
    process::output(apt.command("apt-get").args(["download", &wanted]))
        .with_context(|| format!("download {wanted} from {}", package.suite))?;
    let entries = folder.read_dir().with_context(|| format!("list {}", folder.display()))?;
    entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .with_context(|| format!("apt-get left no package in {}", folder.display()))
}

/// The mirror of Debian's main archive in the machine's own sources.
fn debian_archive() -> Result<Archive> {
    let release = fs::read_to_string("/etc/os-release").context("read /etc/os-release")?;
    let field = |key: &str| {
        let line = release.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        line.map(|value| value.trim_matches('"').to_owned())
    };
    if field("ID").as_deref() != Some("debian") {
        bail!("this machine is not Debian");
    }
    let codename = field("VERSION_CODENAME").context("/etc/os-release has no VERSION_CODENAME")?;
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    if let Ok(entries) = Path::new("/etc/apt/sources.list.d").read_dir() {
        files.extend(entries.filter_map(|entry| Some(entry.ok()?.path())));
    }
    files.sort();
    files
        .iter()
        .filter_map(|file| archive_of(&fs::read_to_string(file).ok()?, &codename))
        .next()
        .with_context(|| format!("no source in /etc/apt has the suite {codename}"))
}

/// A configuration of apt that lives in one directory.
struct PrivateApt {
    folder: PathBuf,
}

impl PrivateApt {
    fn write(folder: &Path, archive: &Archive, suite: &str) -> Result<Self> {
        let apt = folder.join("apt");
        for name in ["lists/partial", "archives/partial", "sources", "preferences"] {
            let path = apt.join(name);
            fs::create_dir_all(&path).with_context(|| format!("create {}", path.display()))?;
        }
        let files = [
            ("sources/suite.sources", archive.stanza(suite)),
            // Nothing of the suite is ever a candidate by itself: only the exact version that is asked for.
            ("preferences/suite", format!("Package: *\nPin: release n={suite}\nPin-Priority: -1\n")),
            ("status", String::new()),
        ];
        for (name, text) in files {
            let path = apt.join(name);
            fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        }
        Ok(Self { folder: folder.to_owned() })
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let apt = self.folder.join("apt");
        let set = |key: &str, path: &str| format!("{key}={}", apt.join(path).display());
        for option in [
            "Dir::Etc::SourceList=/dev/null".to_owned(),
            set("Dir::Etc::SourceParts", "sources"),
            "Dir::Etc::Preferences=/dev/null".to_owned(),
            set("Dir::Etc::PreferencesParts", "preferences"),
            set("Dir::State::Lists", "lists"),
            set("Dir::State::Status", "status"),
            set("Dir::Cache::Archives", "archives"),
            set("Dir::Cache::PkgCache", "pkgcache.bin"),
            set("Dir::Cache::SrcPkgCache", "srcpkgcache.bin"),
            // The directory is the caller's, not the user `_apt`'s.
            "APT::Sandbox::User=".to_owned(),
        ] {
            command.args(["-o", &option]);
        }
        command.current_dir(&self.folder);
        command
    }
}
