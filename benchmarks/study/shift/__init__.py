"""Shifted pictures: do merged answers suffer more from ImageNet-C's corruptions than dense ones?"""
