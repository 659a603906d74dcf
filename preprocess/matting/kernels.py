"""The loops over pixels of mattes, compiled by numba (once, then cached on disk): in NumPy they
would cost as much as all the rest of a matte."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from likeness.ops.compilation import FINITE, helper, kernel


@kernel()
def cell_means(image, mask, colours, shares):
    """Writes the means of ``image`` [H, W, 3] over the pixels of ``mask`` [H, W] in each cell into
    ``colours`` [h, w, 3] (0 where there are none), and their share of the cell into ``shares``
    [h, w]. Pixels that cells share count by their parts."""
    height, width = mask.shape
    rows, columns = shares.shape
    tall, wide = height / rows, width / columns
    for i in range(rows):
        top, bottom = i * tall, (i + 1) * tall
        for j in range(columns):
            left, right = j * wide, (j + 1) * wide
            red = green = blue = total = np.float32(0)
            for y in range(int(top), min(int(math.ceil(bottom)), height)):
                part = min(bottom, y + 1.0) - max(top, float(y))
                for x in range(int(left), min(int(math.ceil(right)), width)):
                    if mask[y, x]:
                        weight = np.float32(part * (min(right, x + 1.0) - max(left, float(x))))
                        red += weight * np.float32(image[y, x, 0])
                        green += weight * np.float32(image[y, x, 1])
                        blue += weight * np.float32(image[y, x, 2])
                        total += weight
            inverse = np.float32(1) / max(total, np.float32(1e-6))
            colours[i, j, 0], colours[i, j, 1] = red * inverse, green * inverse
            colours[i, j, 2], shares[i, j] = blue * inverse, total / np.float32(tall * wide)


class Knowns(NamedTuple):
    """What is known of an image. Beyond ``band``, ``core`` says where the person is."""

    image: np.ndarray  # [H, W, 3]
    mask: np.ndarray  # [H, W] probability of the person
    band: np.ndarray  # [H, W] bool, where alpha is solved for
    core: np.ndarray  # [H, W] bool
    behind: np.ndarray  # [H, W, 3] colour of the background
    sigma: np.ndarray  # [H, W] its standard deviation
    near: np.ndarray  # [H, W, 4] colour and standard deviation of the nearest sure foreground
    alike: np.ndarray  # [H, W] distance from the background of the sure foreground most like it


class OddsLimits(NamedTuple):
    """Largest log odds: of the person and of the background by the mask, and by the colour; and how
    far off the line between both colours their mixtures may be, in parts of its length."""

    inside: np.float32
    outside: np.float32
    colour: np.float32
    ringing: np.float32


@kernel()
def unmix_kernel(knowns, limits, mixed, trust, odds):
    """Solves I = alpha F + (1 - alpha) B at the pixels of the band: alpha into ``mixed`` [H, W].

    ``trust`` [H, W]: how much alpha is worth in [0, 1]: little where F and B are alike for their
    noise, and inside the mask where the person has such colours, too. A colour far off the line
    from B to F is another foreground colour. ``odds`` [H, W]: the log odds of the person by colour
    and mask.
    """
    image, mask, band, core, behind, sigma, near, alike = knowns
    inside, outside, limit, ringing = limits
    height, width = mask.shape
    one, least = np.float32(1), np.float32(1e-4)
    for row in range(height):
        for column in range(width):
            if not band[row, column]:
                mixed[row, column] = np.float32(core[row, column])
                trust[row, column] = one
                odds[row, column] = limit if core[row, column] else -limit
                continue
            b, f, noise = behind[row, column], near[row, column], sigma[row, column]
            square = along = off = np.float32(0)
            for channel in range(3):
                i = np.float32(image[row, column, channel]) - b[channel]
                step = f[channel] - b[channel]
                square += step * step
                along += i * step
                off += i * i
            distance = math.sqrt(square) + np.float32(1e-3)
            along /= distance
            # what the person has, too, is no evidence of the background; there, colours vary more
            apart = (alike[row, column] - math.sqrt(off)) / noise
            apart = max(apart, np.float32(-0.2) * apart) - one
            apart = min(max(apart, np.float32(0)), one)
            # beyond the background's end of the line nothing is a mixture, either
            ahead = max(along, np.float32(0))
            off = math.sqrt(max(off - ahead * ahead, np.float32(0)))
            floor = np.float32(2) * noise
            alpha = (along - floor) / max(distance - floor, floor)
            alpha = min(max(alpha, np.float32(0)), one)
            square = distance * distance
            worth = square / (square + np.float32(36) * noise * noise + f[3] * f[3])
            slack = ringing * distance
            other = (off - np.float32(3) * noise - slack) / (np.float32(5) * noise + slack)
            other = min(max(other, np.float32(0)), one)
            alpha += other * (one - alpha)
            worth = max(worth, other)
            likely = min(max(mask[row, column], least), one - least)
            prior = min(max(np.float32(math.log(likely / (one - likely))), -outside), inside)
            fade = min(max(np.float32(3) - np.float32(4) * alpha, np.float32(0)), one)
            fade *= min(max(np.float32(2) * mask[row, column] - one, np.float32(0)), one)
            worth *= one - fade * (one - apart)
            mixed[row, column], trust[row, column] = alpha, worth
            odds[row, column] = prior + np.float32(2) * limit * worth * (alpha - np.float32(0.5))


@kernel()
def share_kernel(change, falloff, values, other_values, total, other_total, weight, other_weight):
    """Adds the values [H, W] of two frames to each other's total, by how little the image changed
    between them.

    change: [H, W] uint8; falloff: [256] the weight of each change.
    """
    for row in range(change.shape[0]):
        for column in range(change.shape[1]):
            share = falloff[change[row, column]]
            total[row, column] += share * other_values[row, column]
            other_total[row, column] += share * values[row, column]
            weight[row, column] += share
            other_weight[row, column] += share


class SurveyLimits(NamedTuple):
    """When a pixel counts as background; see ``survey.SurveyConfig``."""

    near: np.float32
    clear: np.float32
    motion: np.float32
    same: np.float32
    support: np.float32


@helper(FINITE)
def _square_distance(samples, j, k):
    """Of two colours of ``samples`` [T, 3]."""
    red, green = samples[j, 0] - samples[k, 0], samples[j, 1] - samples[k, 1]
    blue = samples[j, 2] - samples[k, 2]
    return red * red + green * green + blue * blue


@kernel()
def survey_kernel(frames, places, light, limits, colours, deviation, known, person):
    """Finds the colour that each pixel keeps while it is outside the person's mask.

    frames: [T, H, W, 3] uint8. places: [T, H, W] uint8, see ``survey.Survey``. light: [T, 3] what
    each frame is brighter by. Writes ``colours`` [H, W, 3], the mean about the one of the frames'
    that most others agree with, each by its distance from the mask; its mean absolute ``deviation``
    [H, W]; ``known`` [H, W], where it can be trusted: seen from far, or kept while the distance
    changed; ``person`` [H, W], the mask's mean probability in the frames of this colour.
    """
    near, clear, motion, same, support = limits
    count, height, width = places.shape
    zero, one, scale = np.float32(0), np.float32(1), np.float32(1) / (clear - near)
    limit = same * same
    weights, samples = np.empty(count, np.float32), np.empty((count, 3), np.float32)
    for row in range(height):
        for column in range(width):
            known[row, column] = False
            deviation[row, column] = person[row, column] = zero
            for channel in range(3):
                colours[row, column, channel] = zero
            total, seen = zero, 0
            for t in range(count):
                away = np.float32(places[t, row, column]) - np.float32(128)
                weights[t] = min(max((away - near) * scale, zero), one)
                total += weights[t]
                seen += weights[t] > zero
                for channel in range(3):
                    samples[t, channel] = (
                        np.float32(frames[t, row, column, channel]) - light[t, channel]
                    )
            if seen < 3:
                continue
            best, centre = zero, 0
            for j in range(count):
                if weights[j] == zero:
                    continue
                score = zero
                for k in range(count):
                    if _square_distance(samples, j, k) < limit:
                        score += weights[k]
                if score > best:
                    best, centre = score, j
                    if best > np.float32(0.95) * total:
                        break
            red = green = blue = agreed = likely = zero
            nearest, farthest, votes, shown = clear, zero, 0, 0
            for t in range(count):
                if _square_distance(samples, centre, t) >= limit:
                    weights[t] = zero
                    continue
                shown += 1
                place, weight = np.float32(places[t, row, column]), weights[t]
                away = max(place - np.float32(128), zero)
                nearest, farthest = min(nearest, away), max(farthest, away)
                likely += max(one - place / np.float32(127), zero)
                votes += weight > zero
                red += weight * samples[t, 0]
                green += weight * samples[t, 1]
                blue += weight * samples[t, 2]
                agreed += weight
            red, green, blue = red / agreed, green / agreed, blue / agreed
            spread = zero
            for t in range(count):
                change = abs(samples[t, 0] - red) + abs(samples[t, 1] - green)
                spread += weights[t] * (change + abs(samples[t, 2] - blue))
            colours[row, column, 0] = red
            colours[row, column, 1] = green
            colours[row, column, 2] = blue
            deviation[row, column] = spread / (np.float32(3) * agreed)
            person[row, column] = likely / np.float32(shown)
            enough = agreed >= support * total and votes >= 3
            known[row, column] = enough and (farthest >= clear or farthest - nearest >= motion)


@kernel()
def still_kernel(frames, places, light, clear, medians, spread):
    """Writes median colours ``medians`` [H, W, 3] over frames [T, H, W, 3] uint8, and the median of
    the mean absolute difference from them, ``spread`` [H, W], of the pixels that some frame shows
    at less than ``clear`` from the mask; -1 elsewhere."""
    count, height, width = places.shape
    least = np.float32(128) + clear
    samples, ordered = np.empty((count, 3), np.float32), np.empty(count, np.float32)
    off = np.empty(count, np.float32)
    for row in range(height):
        for column in range(width):
            spread[row, column] = np.float32(-1)
            near = False
            for t in range(count):
                near = near or np.float32(places[t, row, column]) < least
            if not near:
                continue
            off[:] = np.float32(0)
            for channel in range(3):
                for t in range(count):
                    shown = np.float32(frames[t, row, column, channel]) - light[t, channel]
                    samples[t, channel] = ordered[t] = shown
                middle = _median(ordered)
                medians[row, column, channel] = middle
                for t in range(count):
                    off[t] += abs(samples[t, channel] - middle) / np.float32(3)
            spread[row, column] = _median(off)


@helper(FINITE)
def _median(values):
    """The middle one of the values, which it sorts."""
    for i in range(1, len(values)):
        value, j = values[i], i - 1
        while j >= 0 and values[j] > value:
            values[j + 1] = values[j]
            j -= 1
        values[j + 1] = value
    return values[len(values) // 2]
