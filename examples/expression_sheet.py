"""One image of an avatar's expressions: python examples/expression_sheet.py runs/me sheet.png"""

import sys

import numpy as np
from PIL import Image

from likeness import Avatar

EXPRESSIONS = [
    [{}, {"smile": 1}, {"frown": 1}, {"pucker": 1}],
    [{"jawOpen": 0.7}, {"funnel": 1}, {"blink": 1}, {"blinkLeft": 1, "smileLeft": 0.6}],
    [{"browInnerUp": 1}, {"browDown": 1}, {"lookUp": 0.8}, {"sneer": 1}],
]


def main(run: str, out: str, size: int = 256) -> None:
    avatar = Avatar.load(run)
    rows = [
        [avatar.render(avatar.state(**values), size=size) for values in row] for row in EXPRESSIONS
    ]
    Image.fromarray(np.block([[[image] for image in row] for row in rows])).save(out)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
