"""Artifacts travel through a folder and through a server of S3: pushed, pulled into a fresh clone, with nothing to do
there; of objects that are deleted or damaged each is named, made again and sent again."""

import json
from pathlib import Path

import pytest
from workspace import Clone, Workspace

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # moto
UNTIL = "sample"  # the last stage that writes to the cache
FILE, FOLDER, PART = "data/zoo.parquet", "models/netformer", "model.safetensors"
ARTIFACTS = ("data/tasks.parquet", FILE, "data/tokens.parquet", "data/samples.parquet", FOLDER)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A workspace whose artifacts have been made, committed."""
    space = Workspace(tmp_path_factory.mktemp("built"))
    assert {"zoo", "train", UNTIL} <= space.ran(space.dvc("repro", UNTIL))
    space.commit("built")
    return space


def part_of_folder(space: Workspace) -> str:
    """Where a file of a folder lies."""
    entries = json.loads((space.root / ".dvc" / "cache" / space.object_of(FOLDER)).read_text())
    md5 = next(entry["md5"] for entry in entries if entry["relpath"] == PART)
    return f"files/md5/{md5[:2]}/{md5[2:]}"


def flipped(data: bytes) -> bytes:
    """One bit in the middle is another."""
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


class Folder:
    """A remote that is a folder."""

    def __init__(self, path: Path) -> None:
        self.path, self.url, self.settings, self.env = path, str(path), {}, {}

    def delete(self, name: str) -> None:
        (self.path / name).unlink()

    def damage(self, name: str) -> None:
        path = self.path / name
        mode = path.stat().st_mode
        path.chmod(0o600)
        path.write_bytes(flipped(path.read_bytes()))
        path.chmod(mode)


class Server:
    """A remote that is a bucket of a server of S3, started here."""

    def __init__(self) -> None:
        pytest.importorskip("dvc_s3", reason="requirements-remotes.txt not installed")
        moto, boto3 = pytest.importorskip("moto.server"), pytest.importorskip("boto3")
        self.server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        self.server.start()
        host, port = self.server.get_host_and_port()
        self.url, self.settings = "s3://networks/store", {"endpointurl": f"http://{host}:{port}"}
        self.env = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
        self.env |= {"NO_PROXY": host, "AWS_EC2_METADATA_DISABLED": "true"}
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self.env.items():
                patch.setenv(name, value)
            self.bucket = boto3.resource("s3", endpoint_url=self.settings["endpointurl"]).Bucket("networks")
            self.bucket.create()

    def delete(self, name: str) -> None:
        self.bucket.Object(f"store/{name}").delete()

    def damage(self, name: str) -> None:
        kept = self.bucket.Object(f"store/{name}")
        kept.put(Body=flipped(kept.get()["Body"].read()))


@pytest.fixture(params=["folder", "folder, nothing verified", "S3"])
def remote(request, tmp_path):
    if request.param != "S3":
        yield Folder(tmp_path / "store")
        return
    made = Server()
    yield made
    made.server.stop()


def test_nothing_is_lost_and_what_is_deleted_or_damaged_is_named_and_made_again(built, remote, request, tmp_path):
    verified = "nothing" not in request.node.callspec.id
    built.dvc("remote", "add", "-f", "-d", "store", remote.url)
    for key, value in remote.settings.items():
        built.dvc("remote", "modify", "store", key, value)
    built.dvc("remote", "modify", "store", "verify", str(verified).lower())
    built.commit(f"remote {request.node.callspec.id}")
    built.env |= remote.env
    assert "files pushed" in built.dvc("push")
    assert "Everything is up to date" in built.dvc("push")

    fresh = Clone(built, tmp_path / "fresh")
    fresh.dvc("pull")
    assert fresh.same(built, ARTIFACTS)
    assert fresh.ran(fresh.dvc("repro", UNTIL)) == set()
    assert "Everything is up to date" in fresh.dvc("pull")
    assert "remote: whole" in fresh.fails(0, "stages.object_check")

    part, file = (f"{FOLDER}/{PART}", part_of_folder(built)), (FILE, built.object_of(FILE))
    (lost, lost_object), (harmed, harmed_object) = (file, part) if verified else (part, file)
    remote.delete(lost_object)
    remote.damage(harmed_object)
    clone = Clone(built, tmp_path / "clone")
    said = clone.fails(1, "dvc", "pull")
    if verified:
        assert f"\n{FILE}\n" in said
        assert f"\n{FOLDER}\n" in said
    else:  # it names the object alone, and of the damaged one it says nothing
        assert lost_object.removeprefix("files/md5/").replace("/", "") in said
    found = clone.fails(1, "stages.object_check")
    assert f"remote: {lost}: missing" in found
    assert f"remote: {harmed}: damaged" in found
    assert (f"cache: {harmed}: damaged" in found) != verified
    clone.fails(1, "stages.object_check", "--remove")
    said = clone.fails(255, "dvc", "checkout")  # what is there
    assert f"\n{FILE}\n" in said
    assert f"\n{FOLDER}\n" in said
    assert clone.ran(clone.dvc("repro", UNTIL)) == {"zoo", "train"}
    assert clone.same(built, ARTIFACTS)
    assert "3 files pushed" in clone.dvc("push")  # the file, the part of the folder, the folder's list

    last = Clone(built, tmp_path / "last")
    last.dvc("pull")
    assert last.same(built, ARTIFACTS)
    assert last.ran(last.dvc("repro", UNTIL)) == set()
    assert "remote: whole" in last.fails(0, "stages.object_check")
