"""Every mistake that can be known before a process starts: one line, exit code 2, no trace left."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from arignote.cli import main

FILES = {
    "net.py": "class Net:\n    defaults = {'train.epochs': 2}\n",
    "odd.py": "class Net:\n    defaults = {'train.epocs': 2}\n",
    "low.py": "class Net:\n    defaults = {'train.epochs': 0}\n",
    "computed.py": "class Net:\n    defaults = {'train.epochs': 2 * N}\n",
    "broken.py": "class Net(:\n",
    "broken.toml": "[train\n",
    "section.toml": "[trian]\nepochs = 2\n",
    "key.toml": "[train]\nepocs = 2\n",
    "value.toml": "[train]\nepochs = 'two'\n",
    "flat.toml": "run = 3\n",
    "model.toml": "[run]\nmodel = 3\n",
    "session.cfg": "RULE=BSP\nMODELFIEL=net.py\n",
    "quote.cfg": "MODELFILE=net.py\nMODELCLASS=Net\nDEVICES='cuda0\n",
    "command.cfg": "RULE=BSP\nrm -rf x\n",
    "hosts.bad": "a slots=x\n",
    "hosts.few": "a slots=2\n",
    "hosts.none": "# nobody\n",
    "script.py": "",
    "old/config.toml": "[run]\nmodel = 'digits-mlp'\ndata = 'digits'\n",
    "old/events.jsonl": '{"event": "begin", "time": 0}\n',
    "saved/config.toml": "[run]\nmodel = 'digits-mlp'\ndata = 'digits'\n",
    "saved/checkpoints/step-00000002/weights": "",
    "nameless/config.toml": "[train]\nepochs = 2\n",
    "damaged/config.toml": "[run\n",
    "changed/config.toml": "[run]\nmodel = 'digits-mlp'\n[train]\nepocs = 1\n",
    "empty/notes.txt": "",
    "file": "",
    "folder.pt2/notes.txt": "",
    "there.onnx": "",
}

TRAIN, SUBMIT = "train digits-mlp", "submit digits-mlp"

MISTAKES = [
    # what is not there at all
    ("trian digits-mlp", r"No such command 'trian'"),
    (f"{TRAIN} --epoch-s 3", r"No such option:? '?--epoch-s"),
    (f"{TRAIN} more", r"unexpected extra argument"),
    ("list modles", r"'modles' is not one of 'rules', 'exchanges', 'models', 'data'"),
    ("completion tcsh", r"'tcsh' is not one of 'bash', 'zsh', 'fish'"),
    # the model
    ("train", r"no model given: arignote train MODEL; known: digits-mlp, "),
    ("train digits-mpl", r"unknown model 'digits-mpl': did you mean 'digits-mlp'\?"),
    ("train net.py", r"model 'net\.py' names no class: write net\.py:Class"),
    ("train none.py:Net", r"no file '.*none\.py' for the model"),
    ("train net.py:Nett", r"net\.py: unknown class 'Nett': did you mean 'Net'\?"),
    ("train no_such_package.x:Net", r"no module 'no_such_package\.x' for the model"),
    ("train broken.py:Net", r"broken\.py is not valid Python"),
    ("train computed.py:Net", r"Net\.defaults must be a plain dictionary"),
    ("train odd.py:Net", r"odd\.py:Net\.defaults: unknown key in \[train\] 'epocs': .*'epochs'"),
    ("train low.py:Net", r"low\.py:Net\.defaults: train\.epochs: got 0, "),
    # rule, exchange, data
    (f"{TRAIN} --rule bps", r"unknown rule 'bps': did you mean 'bsp'\?"),
    (f"{TRAIN} --rule bsp:schem=weights", r"unknown key 'schem': did you mean 'scheme'\?"),
    (f"{TRAIN} --rule bsp:scheme=wieghts", r"rule bsp: scheme: got 'wieghts', .*'weights'"),
    (f"{TRAIN} --rule bsp:weights", r"rule bsp: got 'weights', expected key=value; keys: "),
    (f"{TRAIN} --rule bsp:scheme=weights,scheme=weights", r"gives 'scheme' twice: keep one"),
    (f"{TRAIN} --exchange allreduc", r"unknown exchange 'allreduc': did you mean 'allreduce'\?"),
    (f"{TRAIN} --exchange allreduce:fp23", r"unknown codec 'fp23': did you mean 'fp32'\?"),
    (f"{TRAIN} --data .", r"got the path '\.', expected what it is: a folder of images is image"),
    (f"{TRAIN} --data digit", r"unknown data set 'digit': did you mean 'digits'\?"),
    (f"{TRAIN} --data :x", r"got ':x', expected name\[:argument\]"),
    ("train cifar10-cnn", r"cifar10-cnn brings no data of its own: name some with --data"),
    # values
    (f"{TRAIN} --epochs 0", r"train\.epochs: got 0, .*greater than or equal to 1"),
    (f"{TRAIN} --epochs x", r"'--epochs': 'x' is not a valid integer"),
    (f"{TRAIN} --steps -1", r"train\.steps: got -1, "),
    (f"{TRAIN} --batch-size 0", r"train\.batch_size: got 0, "),
    (f"{TRAIN} --lr 0", r"optimizer\.learning_rate: got 0\.0, .*greater than 0"),
    (f"{TRAIN} --lr nan", r"optimizer\.learning_rate: got nan, .*finite"),
    (f"{TRAIN} --lr fast", r"'--lr': 'fast' is not a valid float"),
    (f"{TRAIN} --seed -1", r"run\.seed: got -1, "),
    (f"{TRAIN} --set train.epochs", r"--set: got 'train\.epochs', expected section\.key=value"),
    (f"{TRAIN} --set epochs=3", r"--set: got 'epochs', expected section\.key, such as"),
    (f"{TRAIN} --set trian.epochs=3", r"--set: unknown section 'trian': did you mean 'train'\?"),
    (f"{TRAIN} --set train.epocs=3", r"--set: unknown key in \[train\] 'epocs': did you mean 'ep"),
    (f"{TRAIN} --set train.epochs=two", r"--set: train\.epochs: got 'two', .*valid integer"),
    (f"{TRAIN} --set train.precision=fp8", r"--set: train\.precision: got 'fp8', .*'bf16'"),
    (f"{TRAIN} --set train.compile=1", r"--set: train\.compile: got 1, .*valid boolean"),
    (f"{TRAIN} --set optimizer.momentum=1", r"--set: optimizer\.momentum: got 1, .*less than 1"),
    (f"{TRAIN} --set optimizer.name=adma", r"--set: optimizer\.name: got 'adma', .*'adam'"),
    (f"{TRAIN} --set optimizer.name=adam", r"momentum is not a setting of adam: use sgd"),
    (f"{TRAIN} --set schedule.name=step", r"schedule\.name='step' needs schedule\.milestones"),
    (f"{TRAIN} --set launch.hosts=a", r"--set: launch\.hosts: got 'a', .*valid list"),
    ("train --set run.model=3", r"--set: run\.model: got 3, .*valid string"),
    # files
    (f"{TRAIN} -c none.toml", r"no config file 'none\.toml'"),
    (f"{TRAIN} -c empty", r"config file 'empty' cannot be read"),
    (f"{TRAIN} -c broken.toml", r"config file 'broken\.toml' is not TOML: .*line 1"),
    (f"{TRAIN} -c section.toml", r"section\.toml: unknown section 'trian': did you mean 'train'"),
    (f"{TRAIN} -c key.toml", r"key\.toml: unknown key in \[train\] 'epocs': did you mean 'epochs'"),
    (f"{TRAIN} -c value.toml", r"value\.toml: train\.epochs: got 'two', .*valid integer"),
    (f"{TRAIN} -c flat.toml", r"flat\.toml: \[run\] is a section: write run\.KEY = VALUE"),
    ("train -c flat.toml", r"flat\.toml: \[run\] is a section: write run\.KEY = VALUE"),
    ("train -c model.toml", r"model\.toml: run\.model: got 3, .*valid string"),
    ("train -c session.cfg", r"session\.cfg: unknown key 'MODELFIEL': did you mean 'MODELFILE'"),
    ("train -c quote.cfg", r"quote\.cfg: DEVICES='cuda0 cannot be split: no closing quotation"),
    ("train -c command.cfg", r"command\.cfg: 'rm -rf x' in line 2 is no KEY=value"),
    # placement
    (f"{TRAIN} -n 0", r"launch\.workers: got 0, .*greater than or equal to 1"),
    (f"{TRAIN} -n x", r"'-n' / '--workers': 'x' is not a valid integer"),
    (f"{TRAIN} --hosts a:b", r"got host 'a:b', expected name or name:slots"),
    (f"{TRAIN} --hosts a:2,", r"got host '', expected name or name:slots"),
    (f"{TRAIN} --hosts a:0", r"got host 'a:0', expected name or name:slots"),
    (f"{TRAIN} --hosts a:2,b -n 4", r"4 workers but only 3 slots on 2 hosts: use -n 3"),
    (f"{TRAIN} --hostfile none", r"hostfile 'none' cannot be read: .*No such file"),
    (f"{TRAIN} --hostfile hosts.bad", r"hostfile 'hosts\.bad', line 1: got 'a slots=x', expected"),
    (f"{TRAIN} --hostfile hosts.none", r"hostfile 'hosts\.none' names no host"),
    (f"{TRAIN} --hostfile hosts.few -n 3", r"3 workers but only 2 slots on 1 hosts"),
    (f"{TRAIN} --devices gpu0", r"got device 'gpu0', expected cpu, cuda or cuda:N"),
    (f"{TRAIN} --devices cpu,cpu -n 3", r"2 devices for 3 workers: name one device a worker"),
    (f"{TRAIN} --devices cuda:999", r"device cuda:999 (cannot be used on|does not exist:) this"),
    (f"{TRAIN} -n 2", r"no MPI found .*: pip install 'arignote\[mpi\]'"),
    (f"{TRAIN} -n 2 --set launch.mpirun=/no/mpirun", r"launch\.mpirun='/no/mpirun' is no program"),
    (f"{TRAIN} -n 2 --set launch.launcher=srun", r"launch\.launcher='srun' but there is no srun"),
    (f'{TRAIN} --set launch.environment=["NOT_SET_X"]', r"'NOT_SET_X' is not set here"),
    # the data folder
    (f"{TRAIN} --data imagefolder:gone", r"data 'imagefolder:gone': no folder 'gone': check the"),
    (f"{TRAIN} --data text:gone", r"data 'text:gone': no file 'gone': check the path"),
    (f"{TRAIN} --data text:", r"data 'text:' names 0 files, expected one: text:FILE"),
    (f"{TRAIN} --data idx:", r"data 'idx:' names 0 folders, expected one: idx:DIR"),
    (f"{TRAIN} --data wds:gone-*.tar", r"no file matches gone-\*\.tar: check the path"),
    (
        f"{TRAIN} --data wds:gone-{{0..9}}.tar",
        r"no file gone-0\.tar: check the path, or the pattern",
    ),
    (f"{TRAIN} --data parquet:gone", r"no file gone: check the path, or the pattern gone"),
    (f"{TRAIN} --data wds:file,validation=x-*", r"no file matches x-\*: check the path"),
    (f"{TRAIN} --data wds:a,b", r"'wds:a,b' names 2 file patterns, expected one: wds:PATTERN"),
    (f"{TRAIN} --data cifar10:a,b", r"'cifar10:a,b' names 2 folders, expected one: cifar10:DIR"),
    # the run folder
    (f"{TRAIN} --out old --dry-run", r"old holds a run already: choose another --out, or go on"),
    (f"{TRAIN} --out old", r"old holds a run already: choose another --out, or go on with --res"),
    (f"{TRAIN} --out file", r"run folder file cannot be written: File exists"),
    (f"{TRAIN} --out file/run", r"run folder file/run cannot be written: Not a directory"),
    ("train --resume empty", r"empty is no run: it has no config\.toml"),
    ("train --resume none", r"none is no run: it has no config\.toml"),
    ("train --resume", r"no run in runs/: name the folder of one"),
    (f"{TRAIN} --auto-resume", r"--auto-resume goes on with --out: give --out DIR, and no --resu"),
    (f"{TRAIN} --auto-resume --out a --resume old", r"--auto-resume goes on with --out: give --o"),
    # a Slurm job
    ("submit", r"no model given: arignote train MODEL; known: digits-mlp, "),
    (f"{SUBMIT} --hosts a:2", r"No such option:? '?--hosts"),
    (f"{SUBMIT} --rule bps", r"unknown rule 'bps': did you mean 'bsp'\?"),
    (f"{SUBMIT} --nodes 0", r"'--nodes': 0 is not in the range x>=1"),
    (f"{SUBMIT} --nodes 3 -n 2", r"3 nodes for 2 workers: each node takes at least one, so use -n"),
    (f"{SUBMIT} --save-before 5", r"'--save-before': 5 is not in the range 15<=x<=65535"),
    (f"{SUBMIT} --time soon", r"--time is 'soon', expected minutes, H:M:S or D-H:M:S, such as 90"),
    (f"{SUBMIT} --time 2", r"--time 2 is 120 s, but the run is to save 120 s before its end: give"),
    (f"{SUBMIT} --sbatch account", r"--sbatch got 'account', expected one of sbatch's options"),
    (
        f"{SUBMIT} --sbatch --nodes=2",
        r"--sbatch got '--nodes=2', which submit sets .*: use --nodes",
    ),
    (f"{SUBMIT} --partition=a\tb", r"--partition is 'a\\tb': expected a name without spaces"),
    (
        f"{SUBMIT} --set launch.grace_seconds=300",
        r"grace_seconds=300, but .*: use --save-before 306",
    ),
    (f'{SUBMIT} --set launch.hosts=["a"]', r"launch\.hosts or launch\.hostfile is set, but Slurm"),
    (f"{SUBMIT} --to none/job.sh", r"--to none/job\.sh cannot be written: No such file"),
    (f"{SUBMIT} --go", r"no sbatch on PATH: leave out --go, and give the script to Slurm where"),
    (
        "submit digits-cnn --out saved",
        r"saved is a run of digits-mlp, not of digits-cnn: leave out",
    ),
    ("train digits-cnn --resume old", r"old is a run of digits-mlp, not of digits-cnn: leave out"),
    ("train digits-cnn --resume nameless", r"nameless is a run of no model, not of digits-cnn"),
    ("train --resume nameless", r"no model given"),
    ("train --resume damaged", r"config file 'damaged/config\.toml' is not TOML"),
    ("train --resume changed", r"changed/config\.toml: unknown key in \[train\] 'epocs'"),
    ("train --resume old --out new", r"--resume old goes on in its own folder: leave out --out"),
    # other workers for a run that goes on
    ("resize -n 4", r"no run in runs/: name the folder of one"),
    (
        "resize empty -n 4",
        r"empty is no run: it has no config\.toml; give the folder of a run to r",
    ),
    ("resize old", r"nothing to change: say how many workers \(-n 4\), or where \(--hosts A:4\)"),
    ("resize old -n 4", r"old is not running: use arignote train --resume old -n 4$"),
    ("resize old --servers 1", r"old is not running: use arignote train --resume old -n N$"),
    ("resize old --hosts a:x", r"got host 'a:x'"),
    ("resize old --hostfile none", r"hostfile 'none' cannot be read"),
    ("resize old -n 4 --timeout 0", r"'--timeout': 0.0 is not in the range x>0"),
    # a user's script
    ("run none.py", r"no script 'none\.py': check the path"),
    ("run --epochs script.py", r"no script '--epochs': check the path; options of ours stand bef"),
    ("run", r"Missing argument 'SCRIPT'"),
    ("run -n 0 script.py", r"launch\.workers: got 0, "),
    ("run -n 2 script.py", r"no MPI found"),
    ("run --hosts a:x script.py", r"got host 'a:x'"),
    ("run -c none.toml script.py", r"no config file 'none\.toml'"),
    ("run --set launch.worker=2 script.py", r"unknown key in \[launch\] 'worker': .*'workers'"),
    # weights to begin from
    (f"{TRAIN} --set train.weights=gone.pth", r"train\.weights: no file 'gone\.pth': check the"),
    (f"{TRAIN} --set train.weights=file", r"train\.weights: got 'file', expected a file that ends"),
    # use of a run
    ("evaluate", r"Missing argument 'RUN'"),
    ("evaluate empty", r"empty is no run: it has no config\.toml; give the folder of a run"),
    ("evaluate nameless", r"no model given"),
    ("evaluate old --data digit", r"unknown data set 'digit': did you mean 'digits'\?"),
    ("infer none file", r"none is no run: it has no config\.toml"),
    ("infer old", r"got neither files nor --prompt: give picture or text files, or --prompt TEXT"),
    ("infer old file --prompt x", r"got both files and --prompt: give picture or text files, or"),
    ("infer old file gone.png", r"no file 'gone\.png': check the path"),
    ("infer old --prompt x --length 0", r"'--length': 0 is not in the range 1<=x<="),
    ("infer old --prompt x --temperature -1", r"--temperature -1: expected 0, or 0.01"),
    ("infer old file --top 0", r"'--top': 0 is not in the range x>=1"),
    ("export old", r"Missing argument 'OUT'"),
    ("export empty x.pt2", r"empty is no run: it has no config\.toml"),
    ("export old x.pth", r"x\.pth ends in '\.pth', expected \.safetensors, \.pt2, \.onnx"),
    ("export old x", r"x ends in nothing, expected \.safetensors, \.pt2, \.onnx"),
    ("export old folder.pt2", r"folder\.pt2 is a folder: name a file"),
    ("export old x.pt2/", r"x\.pt2/ is a folder: name a file"),
    ("export old there.onnx", r"there\.onnx exists: choose another name, or add --force"),
    ("export old none/x.pt2", r"no folder 'none' to write x\.pt2 to: make it"),
    # prepared data
    ("prepare", r"Missing argument 'SRC'"),
    ("prepare empty", r"Missing argument 'OUT'"),
    ("prepare none out", r"none does not exist: name a folder of images, or a tar of one"),
    ("prepare file out", r"file is no whole, uncompressed tar \(empty file\): decompress it"),
    ("prepare empty out", r"empty has neither a folder train nor ILSVRC2012_img_train\.tar: expe"),
    ("prepare none file", r"file is a file: name a folder"),
    ("prepare none empty", r"empty holds other files \(notes\.txt\): name a new or empty folder"),
    ("prepare none out --size 0", r"'--size': 0 is not in the range 1<=x<=8192"),
    ("prepare none out --workers 0", r"'--workers': 0 is not in the range x>=1"),
    ("prepare none out --val-share 0.2", r"--val-share splits images without folders: add --cla"),
    ("prepare none out --val-share 1", r"'--val-share': 1\.0 is not in the range 0<x<1"),
    ("prepare empty out --class-from-name", r"empty holds no \.jpg, \.jpeg, \.png file: name a"),
    ("data inf empty", r"No such command 'inf'"),
    ("data info none", r"no folder none: name one that `arignote prepare` made"),
    ("data verify empty", r"empty/index\.json cannot be read"),
    ("data mean empty", r"empty has neither a folder train nor ILSVRC2012_img_train\.tar"),
    (f"{TRAIN} --data shards:none", r"data 'shards:none': no folder 'none': check the path"),
    # pictures
    ("plot", r"no run in runs/: name the folder of one"),
    ("plot none", r"none is no run: it has no events\.jsonl; give the folder of a run"),
    ("plot old -o x.gif", r"got 'x\.gif', expected a file that ends in \.png"),
]


@pytest.fixture
def bare(tmp_path, monkeypatch):
    """A machine without MPI, GPUs or Slurm, on which no process may be started."""
    for name, text in FILES.items():
        path = tmp_path / "here" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("PATH", str(tmp_path / "no-programs"))
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "no-prefix"))
    for name in ("SLURM_JOB_ID", "ARIGNOTE_MPIRUN", "NOT_SET_X"):
        monkeypatch.delenv(name, raising=False)
    glob, exists = Path.glob, Path.exists
    monkeypatch.setattr(
        Path,
        "glob",
        lambda self, pattern: iter(()) if str(self) == "/dev" else glob(self, pattern),
    )
    monkeypatch.setattr(Path, "exists", lambda self: str(self) != "/dev/kfd" and exists(self))
    started = []
    monkeypatch.setattr(subprocess, "Popen", lambda *args, **kwargs: started.append(args))
    yield tmp_path / "here"
    assert started == [], f"a process was started: {started}"


def tree(folder):
    return {str(path): path.is_file() and path.read_bytes() for path in folder.rglob("*")}


@pytest.mark.parametrize(("line", "message"), MISTAKES, ids=[line for line, _ in MISTAKES])
def test_a_mistake_is_told_in_one_line(line, message, bare, capsys):
    before = tree(bare)
    with pytest.raises(SystemExit) as caught:
        main(line.split(" "))
    out, err = capsys.readouterr()
    assert re.search(message, err), err
    assert err.startswith("arignote: error: ")
    assert err.count("\n") == 1
    assert err.endswith("\n")
    assert (caught.value.code, out) == (2, "")
    assert tree(bare) == before


def test_every_file_of_the_table_is_used():
    lines = " ".join(line for line, _ in MISTAKES)
    assert [name for name in FILES if name.partition("/")[0] not in lines] == []
