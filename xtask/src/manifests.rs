//! Building the manifests of `deploy/` as `kubectl apply -k` would, without a cluster.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{process, report, setup::envtest::VARIABLE, workspace};

/// Builds every kustomization; without kubectl says so.
pub fn check() -> Result<()> {
    let Some(kubectl) = kubectl() else {
        report::skipped(&format!("manifests: no kubectl in {VARIABLE} or on the PATH"));
        return Ok(());
    };
    report::step("manifests: every kustomization builds");
    let (mut kustomizations, mut components) = (Vec::new(), Vec::new());
    find(&workspace::root().join("deploy"), &mut kustomizations, &mut components)?;
    ensure!(!kustomizations.is_empty() && !components.is_empty(), "no kustomizations were found");
    for folder in &kustomizations {
        build(&kubectl, folder)?;
    }
    components.iter().try_for_each(|component| build_with(&kubectl, component))
}

fn kubectl() -> Option<PathBuf> {
    let assets = std::env::var_os(VARIABLE).map(|folder| Path::new(&folder).join("kubectl"));
    assets.filter(|kubectl| kubectl.is_file()).or_else(|| process::which("kubectl"))
}

/// The folders below `folder` that have a kustomization, and those that have a component.
fn find(folder: &Path, kustomizations: &mut Vec<PathBuf>, components: &mut Vec<PathBuf>) -> Result<()> {
    let unreadable = || format!("read {}", folder.display());
    let own = folder.join("kustomization.yaml");
    if own.is_file() {
        let text = fs::read_to_string(own).with_context(unreadable)?;
        let is_component = text.lines().any(|line| line == "kind: Component");
        if is_component { components.push(folder.to_owned()) } else { kustomizations.push(folder.to_owned()) }
    }
    for entry in fs::read_dir(folder).with_context(unreadable)? {
        let path = entry.with_context(unreadable)?.path();
        if path.is_dir() {
            find(&path, kustomizations, components)?;
        }
    }
    Ok(())
}

/// What a kustomization comes to must be something.
fn build(kubectl: &Path, folder: &Path) -> Result<()> {
    let built = process::output(Command::new(kubectl).arg("kustomize").arg(folder))
        .with_context(|| format!("build {}", folder.display()))?;
    if !built.contains("kind: ") {
        bail!("{} comes to nothing", folder.display());
    }
    Ok(())
}

/// A component is built on top of the overlay that changes nothing. Kustomizations name others by relative paths alone.
fn build_with(kubectl: &Path, component: &Path) -> Result<()> {
    let folder = std::env::temp_dir().join(format!("crosswall-manifests-{}", std::process::id()));
    fs::create_dir(&folder).with_context(|| format!("make {}", folder.display()))?;
    let built = compose(&folder, component)
        .and_then(|()| build(kubectl, &folder))
        .with_context(|| format!("{} on top of an overlay", component.display()));
    fs::remove_dir_all(&folder).with_context(|| format!("remove {}", folder.display()))?;
    built
}

/// Makes a kustomization of an overlay and a component.
fn compose(folder: &Path, component: &Path) -> Result<()> {
    let root = "../".repeat(fs::canonicalize(folder)?.components().count() - 1);
    let overlay = workspace::root().join("deploy/overlays/generic");
    let mut text = String::new();
    for (field, path) in [("resources", overlay.as_path()), ("components", component)] {
        let path = fs::canonicalize(path)?;
        text += &format!("{field}: [{root}{}]\n", path.strip_prefix("/")?.display());
    }
    fs::write(folder.join("kustomization.yaml"), text).context("write a kustomization")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kustomizations_and_components_are_told_apart() {
        let (mut kustomizations, mut components) = (Vec::new(), Vec::new());
        let deploy = workspace::root().join("deploy");
        find(&deploy, &mut kustomizations, &mut components).expect("readable");
        assert!(kustomizations.contains(&deploy.join("base")), "{kustomizations:?}");
        assert!(components.contains(&deploy.join("components/selinux")), "{components:?}");
        assert!(components.iter().all(|component| !kustomizations.contains(component)));
    }
}
