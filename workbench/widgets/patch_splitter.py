"""PatchSplitter: a picture becomes patches, a patch becomes numbers, and these become a token."""

import math

import torch
import torch.nn.functional as F
import traitlets

from workbench import plots
from workbench.checks import counted
from workbench.image import ImageSource, as_seen
from workbench.patches import cut_size, projection_steps
from workbench.vit import ViT, split_patches
from workbench.widgets.base import read_front, rounded, to_bytes
from workbench.widgets.picture import PictureWidget
from workbench.widgets.strip import Drawer

MOST_PATCHES = 2500  # that are drawn
MATRIX = (48, 96)  # most rows and columns of E that are drawn; larger ones are averaged down


class PatchSplitter(PictureWidget):
    """A grid over a picture; one patch large, flattened, multiplied by the projection, put into the sequence.

    Example:
        >>> PatchSplitter(wb.load_vit(), "my_cat.jpg")  # doctest: +SKIP
    """

    _esm, _css = read_front("patch_splitter")
    show_on = ("patch_size", "side", "keep_shape")
    look_on = ("patch", "output")

    patch_size = traitlets.Int(help="Side of a patch in pixels; by default the checkpoint's.")
    side = traitlets.Int(help="Side of a square of as many pixels; else the checkpoint's.")
    keep_shape = traitlets.Bool(False, help="As many pixels, but in the picture's own shape.")
    patch = traitlets.Int(0, help="The pinned patch, row by row; -1: the class token.")
    output = traitlets.Int(0, help="Which number of the resulting vector is explained.")
    words = traitlets.List(
        traitlets.Unicode(),
        help="Word pieces of a sentence, to stand beside the patches, if any.",
    )

    own_patch_size = traitlets.Int(help="That of the checkpoint, which its matrix fits.")
    own_side = traitlets.Int(help="Side of the pictures that the checkpoint was made for.")
    values = traitlets.Bytes(help="float16 (channels * patch * patch), what the matrix is given.")
    colors = traitlets.Bytes(help="8 bit, the same before they were normalised.")
    vector = traitlets.Bytes(help="float16 (hidden): the patch times E, or what stands in front; or empty.")
    weights = traitlets.Bytes(help="float16, the column of E for `output`; or empty.")
    total = traitlets.List(help="Sum of the products, and the bias, for `output`.")
    matrix = traitlets.Bytes(help="8 bit, signed: the paper's E (pixels, hidden), averaged down.")
    matrix_shape = traitlets.List(help="Rows and columns of `matrix`, then its true ones.")

    def __init__(self, vit: ViT, image: ImageSource | None = None, **options: object) -> None:
        if vit.config.num_channels != 3:
            raise ValueError(f"{vit.name} reads grey pictures; PatchSplitter shows red, green and blue.")
        side = round(math.prod(vit.config.image_size) ** 0.5)  # of a square of as many pixels
        sizes = {"patch_size": vit.config.patch_size, "side": side}
        own = {f"own_{name}": value for name, value in sizes.items()}
        # Where in the picture the pinned patch stays; at first it is one near the middle, if none is given.
        self._place = () if "patch" in options else (0.4, 0.5)
        super().__init__(vit, image, **own | sizes | options)

    def rehearse(self) -> list[dict]:
        """Every patch, and the class token."""
        return [{"patch": range(-1, math.prod(self.grid)), "stage": ["", "embeddings"]}]

    def _line(self) -> list[list[str]]:
        """It ends where the encoder begins."""
        (_, tokens, _), *_ = line = super()._line()[:2]
        line[0] = ["", tokens, f"{self.grid[0]} × {self.grid[1]}"]
        if self.patch_size != self.model.config.patch_size:
            line[1][-1] = "this needs another E"
        return [*line, ["", "the encoder", counted(self.layers, "layer")]]

    @property
    def _token(self) -> int:
        return self.patch + self.prefix if self.patch >= 0 else 0

    def _embeddings_drawer(self) -> Drawer:
        size = self.model.config.patch_size
        if self.patch_size != size:
            takes = f"The matrix E of this checkpoint takes patches of {size} × {size} pixels."
            return {"empty": f"{takes} Another patch size needs another matrix, and another training."}, []
        return super()._embeddings_drawer()

    def _show(self) -> None:
        patch, side = self.patch_size, self.side
        if not 1 <= patch <= side or side > 1024:
            raise ValueError(f"No picture of {side} pixels is cut into patches of {patch}.")
        own = (self._image.height, self._image.width)
        size = cut_size(own if self.keep_shape else self.model.preprocessing.size, side, patch)
        count = size[0] * size[1] // patch**2
        if count > MOST_PATCHES:
            raise ValueError(
                f"That would be {count:,} patches; at most {MOST_PATCHES:,} are drawn here: "
                "take larger patches or fewer pixels."
            )
        self._pixels = self._see(size, patch)
        if self.patch >= 0 and self._place:
            row, column = (int(part * whole) for part, whole in zip(self._place, self.grid, strict=True))
            self._settle(patch=row * self.grid[1] + column)

    def _look(self) -> None:
        """Follows the pinned patch from its pixels to its token."""
        config, size, projection = self.model.config, self.patch_size, self.model.embeddings.projection
        patch = max(-1, min(self.patch, math.prod(self.grid) - 1))
        output = max(0, min(self.output, config.hidden_size - 1))
        self._settle(patch=patch, output=output)
        if patch >= 0:
            places = zip(divmod(patch, self.grid[1]), self.grid, strict=True)
            self._place = tuple((place + 0.5) / count for place, count in places)
        values = split_patches(self._pixels, size)[0, max(patch, 0)].float().cpu()
        self.values = to_bytes(values)
        self._colors = as_seen(values.view(1, 3, size, size), self.model.preprocessing)
        self.colors = self._colors.transpose(2, 0, 1).tobytes()
        matrix = projection.weight.float().cpu().T  # E of the paper: a column is a filter
        shape = [min(sides) for sides in zip(matrix.shape, MATRIX, strict=True)]
        small = F.adaptive_avg_pool2d(matrix[None], shape)[0]
        self.matrix = (small / small.abs().amax().clamp(min=1e-9) * 127).round().char().numpy().tobytes()
        self.matrix_shape = [*shape, *matrix.shape]
        self._steps, self.vector, self.weights, self.total = [], b"", b"", []
        self._way = self._way_of(self._pixels)
        if size != config.patch_size:
            self.status = f"{self.model.name} · its matrix takes patches of {config.patch_size} pixels only"
            return
        with self.timed():
            steps = projection_steps(self.model, self._pixels, patch)
        self._steps = [steps[name].detach().float().cpu() for name in ("projected", "position", "token")]
        self.vector = to_bytes(self._steps[0])
        if patch >= 0:
            self.weights = to_bytes(matrix[:, output])
            sums = torch.stack([values @ matrix[:, output], projection.bias[output].float().cpu()])
            self.total = rounded(sums, 4)

    def figure(self) -> plots.StillFigure:
        """The picture with its grid, the pinned patch, and the way from its pixels to its token."""
        pinned, rows = [self.patch] * (self.patch >= 0), []
        if pinned:
            flat = self._colors.transpose(2, 0, 1).reshape(1, -1)  # red, green, blue values
            rows.append(plots.picture(self._colors, title=f"patch {self.patch + 1}", height=1.4))
            rows.append(plots.heat(flat, [f"{flat.size} values"], height=0.7))
        names = ("x E + b" if pinned else "* (class token)", "+ position", "= token")
        for name, step in zip(names, self._steps, strict=False):  # none for patches of another size
            rows.append(plots.heat(step[None], [name], height=0.7))
        title = f"{self.grid[0]} x {self.grid[1]} patches"
        whole = plots.picture(self._seen, title=title, grid=self.grid, framed=pinned, height=3.5)
        return plots.stack((whole, rows) if rows else whole, status=self.status)
