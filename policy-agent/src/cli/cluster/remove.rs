//! `policyctl cluster remove`.

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::Link;
use super::objects::{self, READER, READER_NAMESPACE};
use crate::cli::output::write;

/// With what to part.
#[derive(Args, Debug)]
pub struct Options {
    #[command(flatten)]
    link: Link,
    /// Remove the account from the member as well: every other cluster that reads it loses it too.
    #[arg(long)]
    everything: bool,
}

/// Prints or deletes what a link needs: this cluster's Secret, and this reader's token in the member.
pub async fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let Options { link, everything } = options;
    let secret = objects::secret(&link.id, &link.namespace, "");
    let of_member = if *everything {
        objects::of_member(&link.reader)?.into_iter().rev().collect()
    } else {
        let metadata = json!({"name": link.reader, "namespace": READER_NAMESPACE});
        vec![json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata})]
    };
    if !link.apply {
        let names: String =
            of_member.iter().map(|object| format!("{}: {}\n", link.id, objects::name(object))).collect();
        let text = format!(
            "Take the member {id} out of the ClusterSet; then --apply deletes:\n\nthis cluster: {}\n{names}",
            objects::name(&secret),
            id = link.id,
        );
        write(text.as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    let (remote, local) = (link.remote().await?, link.local().await?);
    let mut said = vec![("this cluster".to_owned(), objects::name(&secret), objects::delete(&local, &secret).await?)];
    for object in &of_member {
        said.push((link.id.to_string(), objects::name(object), objects::delete(&remote, object).await?));
    }
    for (place, name, was_there) in said {
        let outcome = if was_there { "deleted" } else { "was not there" };
        write(format!("{place}: {name} {outcome}\n").as_bytes())?;
    }
    if !everything {
        let rest = format!(
            "the account {READER_NAMESPACE}/{READER} of {} stays for other readers; --everything removes it\n",
            link.id
        );
        write(rest.as_bytes())?;
    }
    Ok(ExitCode::SUCCESS)
}
