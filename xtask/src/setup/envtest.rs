//! kube-apiserver, kubectl and etcd for tests against real API servers: those of `KUBEBUILDER_ASSETS`, or built from
//! the Go module in `xtask/envtest` into the cache.
//!
//! Distributions have etcd too, but often one so old (before 3.4.31 and 3.5.13) that an API server gives no streaming
//! lists on it and serves no consistent list from its cache: not what agents meet in clusters.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use super::cache;
use crate::{process, report, workspace};

/// Names the directory with the programs, as Kubernetes' own projects have it.
pub const VARIABLE: &str = "KUBEBUILDER_ASSETS";

/// What such a directory has to have, with the packages that the Go module builds them of.
const PROGRAMS: [(&str, &str); 3] = [
    ("etcd", "go.etcd.io/etcd/server/v3"),
    ("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver"),
    ("kubectl", "k8s.io/kubernetes/cmd/kubectl"),
];
/// The module whose release counts.
const MODULE: &str = "k8s.io/kubernetes";
/// The build tags of upstream's releases.
const TAGS: &str = "notest,grpcnotrace";
/// The packages that a program's version is written into.
const VERSION_PACKAGES: [&str; 2] = ["k8s.io/component-base/version", "k8s.io/client-go/pkg/version"];

/// Gives the directory with all programs, building what is absent.
pub fn ensure() -> Result<PathBuf> {
    if let Some(folder) = env::var_os(VARIABLE).filter(|folder| !folder.is_empty()) {
        return given(PathBuf::from(folder));
    }
    let go_mod = read("go.mod")?;
    let release = Release::of_module(&go_mod)?;
    let recipe = release.recipe(&go_mod, &read("go.sum")?);
    let _lock = cache::Lock::take()?;
    let folder = cache::folder(&release.folder())?;
    if !is_built(&folder, &recipe) {
        let names = PROGRAMS.map(|(name, _)| name).join(", ");
        let go = process::which("go").with_context(|| format!("needs Go, which builds {names} (or {VARIABLE})"))?;
        build_into(&folder, &go, &release, &recipe)
            .with_context(|| format!("build {names} of {MODULE} {} (or set {VARIABLE})", release.version))?;
    }
    Ok(folder)
}

/// The directory that the environment names: complete, or an error.
fn given(folder: PathBuf) -> Result<PathBuf> {
    let absent = absent(&folder);
    if !absent.is_empty() {
        bail!("{VARIABLE} is {}, which has no {}", folder.display(), absent.join(", "));
    }
    Ok(folder)
}

fn absent(folder: &Path) -> Vec<&'static str> {
    PROGRAMS.into_iter().map(|(name, _)| name).filter(|name| !folder.join(name).is_file()).collect()
}

/// A release of Kubernetes: `1.36.3`.
#[derive(Debug, PartialEq, Eq)]
struct Release {
    version: String,
    major: String,
    minor: String,
}

impl Release {
    /// The one that a go.mod requires.
    fn of_module(go_mod: &str) -> Result<Self> {
        let found = go_mod.lines().find_map(|line| {
            let line = line.trim().trim_start_matches("require").trim_start();
            line.strip_prefix(MODULE)?.trim_start().strip_prefix('v')
        });
        let version = found.with_context(|| format!("xtask/envtest/go.mod requires no {MODULE}"))?.trim();
        let mut numbers = version.split('.');
        let (Some(major), Some(minor)) = (numbers.next(), numbers.next()) else {
            bail!("{version} is no version of {MODULE}");
        };
        Ok(Self { version: version.into(), major: major.into(), minor: minor.into() })
    }

    /// Its directory in the cache.
    fn folder(&self) -> String {
        format!("envtest-kubernetes-{}", self.version)
    }

    /// The linker's arguments: no symbols, and the version that the programs say they are.
    fn linker_flags(&self) -> String {
        let Self { version, major, minor } = self;
        let mut flags = "-s -w".to_owned();
        for package in VERSION_PACKAGES {
            for (name, value) in [("gitVersion", &format!("v{version}")), ("gitMajor", major), ("gitMinor", minor)] {
                flags.push_str(&format!(" -X {package}.{name}={value}"));
            }
        }
        flags
    }

    /// Everything that makes two builds differ; kept beside the programs.
    fn recipe(&self, go_mod: &str, go_sum: &str) -> String {
        format!("tags {TAGS}\nldflags {}\n{go_mod}\n{go_sum}", self.linker_flags())
    }
}

/// Where the recipe of what was built is kept.
fn kept_recipe(folder: &Path) -> PathBuf {
    folder.join("recipe")
}

fn is_built(folder: &Path, recipe: &str) -> bool {
    absent(folder).is_empty() && fs::read_to_string(kept_recipe(folder)).is_ok_and(|kept| kept == recipe)
}

fn build_into(folder: &Path, go: &Path, release: &Release, recipe: &str) -> Result<()> {
    report::step(&format!(
        "building kube-apiserver {} (5–12 minutes on two cores, once; seconds while Go's build cache has it)",
        release.version
    ));
    // Beside its place, and renamed into it: a build that is cut off leaves no half program.
    let staging = tempfile::tempdir_in(folder).context("make a directory for the build")?;
    for (name, package) in PROGRAMS {
        build(go, release, package, &staging.path().join(name))?;
    }
    let kept = kept_recipe(folder);
    let _absent_is_fine = fs::remove_file(&kept);
    for (name, _) in PROGRAMS {
        let (from, to) = (staging.path().join(name), folder.join(name));
        fs::rename(&from, &to).with_context(|| format!("move {} to {}", from.display(), to.display()))?;
    }
    fs::write(&kept, recipe).with_context(|| format!("write {}", kept.display()))
}

/// Go's own caches stay where they are: they are worth more than all that is kept here.
fn build(go: &Path, release: &Release, package: &str, output: &Path) -> Result<()> {
    // Other work on the machine goes first.
    let mut build = Command::new("nice");
    build.arg(go).args(["build", "-mod=readonly", "-buildvcs=false", "-trimpath", "-tags", TAGS, "-ldflags"]);
    build.arg(release.linker_flags()).arg("-o").arg(output).arg(package);
    // No workspace and no flags of the user's: what is built is what the recipe says.
    build.envs([("CGO_ENABLED", "0"), ("GOWORK", "off"), ("GOFLAGS", "")]);
    process::output(build.current_dir(module())).map(drop)
}

fn module() -> PathBuf {
    workspace::root().join("xtask/envtest")
}

fn read(file: &str) -> Result<String> {
    let path = module().join(file);
    fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn release() -> Release {
        Release { version: "1.36.3".into(), major: "1".into(), minor: "36".into() }
    }

    #[test]
    fn the_release_is_the_one_that_go_mod_requires() {
        let on_a_line = "module x\n\nrequire k8s.io/kubernetes v1.36.3\n";
        let in_a_block = "module x\ntool k8s.io/kubernetes/cmd/kubectl\nrequire (\n\tk8s.io/kubernetes v1.36.3\n)\n";
        for go_mod in [on_a_line, in_a_block] {
            assert_eq!(Release::of_module(go_mod).expect("there is one"), release());
        }
        assert!(Release::of_module("module x\nrequire k8s.io/api v0.36.3\n").is_err());
    }

    #[test]
    fn the_committed_module_takes_all_of_kubernetes_from_one_release() {
        let go_mod = read("go.mod").expect("it is in the checkout");
        let release = Release::of_module(&go_mod).expect("it requires Kubernetes");
        let staged = format!("v0.{}", release.version.trim_start_matches("1."));
        for part in ["api", "apimachinery", "apiserver", "client-go", "component-base", "kubectl"] {
            assert!(go_mod.contains(&format!("\tk8s.io/{part} {staged}\n")), "k8s.io/{part} {staged}");
        }
        assert!(!go_mod.contains("replace"));
        for (_, package) in PROGRAMS {
            assert!(go_mod.contains(&format!("\t{package}\n")), "go.mod keeps what {package} needs");
        }
    }

    #[test]
    fn another_release_has_another_place_and_another_setting_another_recipe() {
        let newer = Release { version: "1.37.0".into(), major: "1".into(), minor: "37".into() };
        assert_eq!([release().folder(), newer.folder()], ["envtest-kubernetes-1.36.3", "envtest-kubernetes-1.37.0"]);
        let recipe = release().recipe("module x", "sums");
        assert_ne!(recipe, release().recipe("module x", "other sums"));
        assert_ne!(recipe, newer.recipe("module x", "sums"));
        assert!(recipe.contains("-X k8s.io/component-base/version.gitVersion=v1.36.3"), "{recipe}");
    }

    #[test]
    fn what_was_built_counts_only_for_its_own_recipe_and_as_a_whole() {
        let folder = tempfile::tempdir().expect("a directory");
        fs::write(kept_recipe(folder.path()), "this").expect("written");
        for program in ["etcd", "kubectl"] {
            fs::write(folder.path().join(program), "").expect("written");
        }
        assert!(!is_built(folder.path(), "this"));
        fs::write(folder.path().join("kube-apiserver"), "").expect("written");
        assert!(is_built(folder.path(), "this"));
        assert!(!is_built(folder.path(), "that"));
    }

    #[test]
    fn a_given_directory_that_lacks_a_program_is_refused_by_name() {
        let folder = tempfile::tempdir().expect("a directory");
        for program in ["etcd", "kubectl"] {
            fs::write(folder.path().join(program), "").expect("written");
        }
        let refused = given(folder.path().to_owned()).expect_err("it is not whole").to_string();
        assert!(refused.ends_with("has no kube-apiserver"), "{refused}");
        fs::write(folder.path().join("kube-apiserver"), "").expect("written");
        assert_eq!(given(folder.path().to_owned()).expect("it is whole"), folder.path());
    }
}
